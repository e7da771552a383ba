#!/usr/bin/env python3
"""Makes an ELF core in the layout of /proc/vmcore, which drgn reads, of a raw image of memory.

Usage: core_file.py IMAGE OUT
"""
import mmap
import struct
import sys


def vmcoreinfo(image):
    """The kernel's own note about itself: text that starts so in a page of its own."""
    at = -1
    while (at := image.find(b"OSRELEASE=", at + 1)) >= 0:
        text = image[at:at + 4096].split(b"\0")[0]
        if b"SYMBOL(_stext)" in text and b"KERNELOFFSET=" in text:
            return text
    raise SystemExit("the image has no VMCOREINFO")


def main():
    source, out = sys.argv[1:]
    with open(source, "rb") as file, open(out, "wb") as core:
        image = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        text = vmcoreinfo(image)
        name = b"VMCOREINFO\0\0"
        note = struct.pack("<III", 11, len(text), 0) + name + text + b"\0" * (-len(text) % 4)
        start = 4096 + (len(note) + 4095) // 4096 * 4096
        core.write(b"\x7fELF\2\1\1" + bytes(9))
        core.write(struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0))
        core.write(struct.pack("<IIQQQQQQ", 4, 0, 4096, 0, 0, len(note), len(note), 0))
        core.write(struct.pack("<IIQQQQQQ", 1, 7, start, 0, 0, len(image), len(image), 0))
        core.seek(4096)
        core.write(note)
        core.seek(start)
        at = 0
        while at < len(image):
            core.write(image[at:at + (1 << 24)])
            at += 1 << 24


main()

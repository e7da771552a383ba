#!/usr/bin/env python3
"""Makes the symbol file that Volatility 3 needs for a kernel, from what GRASS finds in its memory.

Usage: symbol_file.py BTF SYMBOLS BANNER OUT
BTF      the kernel's types, as /sys/kernel/btf/vmlinux has them
SYMBOLS  lines of /proc/kallsyms, with the addresses of the running kernel
BANNER   what /proc/version prints
OUT      the JSON to write (Volatility's ISF, schema 6.2.0)

BTF has no types of global variables: those that Volatility's plugins look at are listed here.
"""
import base64
import json
import struct
import sys

LINKED_AT = 0xFFFFFFFF81000000
GLOBALS = {
    "init_task": "task_struct", "init_mm": "mm_struct", "init_net": "net", "init_pid_ns": "pid_namespace",
    "modules": "list_head", "net_namespace_list": "list_head", "prog_idr": "idr", "map_idr": "idr",
    "bpf_kallsyms": "list_head", "mod_tree": "mod_tree_root", "prb": "*printk_ringbuffer", "idt_table": "gate_struct",
    "module_kset": "*kset", "tty_drivers": "list_head", "keyboard_notifier_list": "atomic_notifier_head",
    "ftrace_ops_list": "*ftrace_ops", "vmemmap_base": "long unsigned int", "page_offset_base": "long unsigned int",
    "taint_flags": "taint_flag", "timekeeper": "timekeeper", "iomem_resource": "resource",
    "cap_last_cap": "int", "ftrace_mod_maps": "list_head", "_text": "char", "_etext": "char",
    "module_addr_min": "long unsigned int", "module_addr_max": "long unsigned int",
    "socket_file_ops": "file_operations", "sockfs_dentry_operations": "dentry_operations",
}


class BTF:
    """include/uapi/linux/btf.h"""

    def __init__(self, data):
        magic, _, _, header, types, types_size, strings, strings_size = struct.unpack_from("<HBBIIIII", data, 0)
        if magic != 0xEB9F:
            raise SystemExit("not BTF")
        self.strings = data[header + strings:header + strings + strings_size]
        self.types = [("void", 0, 0, 0, 0, None)]
        at, end = header + types, header + types + types_size
        sizes = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12),
                 17: (4, 0), 19: (0, 12)}
        while at < end:
            name, info, size = struct.unpack_from("<III", data, at)
            kind, count, flag = info >> 24 & 31, info & 0xFFFF, info >> 31
            fixed, each = sizes.get(kind, (0, 0))
            extra = data[at + 12:at + 12 + fixed + each * count]
            self.types.append((kind, name, count, flag, size, extra))
            at += 12 + len(extra)

    def name(self, offset):
        return self.strings[offset:self.strings.index(b"\0", offset)].decode()

    def type_name(self, number):
        return self.name(self.types[number][1]) or f"unnamed_{number}"

    def describe(self, number, depth=0):
        """A type as members and pointers name it."""
        while self.types[number][0] in (8, 9, 10, 11, 18):  # typedef, volatile, const, restrict, type tag
            number = self.types[number][4]
        kind, name, count, flag, size, extra = self.types[number]
        if kind == "void":
            return {"kind": "base", "name": "void"}
        if kind in (1, 16):
            return {"kind": "base", "name": self.name(name)}
        if kind == 2:
            return {"kind": "pointer", "subtype": self.describe(size, depth + 1)}
        if kind == 3:
            element, _, length = struct.unpack("<III", extra)
            return {"kind": "array", "count": length, "subtype": self.describe(element, depth + 1)}
        if kind in (4, 5, 7):
            word = "union" if kind == 5 or kind == 7 and flag else "struct"
            return {"kind": word, "name": self.type_name(number)}
        if kind in (6, 19):
            return {"kind": "enum", "name": self.type_name(number)}
        return {"kind": "function"}

    def is_signed(self, number):
        return struct.unpack("<I", self.types[number][5])[0] >> 24 & 1 == 1

    def members(self, number):
        kind, _, count, flag, _, extra = self.types[number]
        fields = {}
        for index in range(count):
            name, type, offset = struct.unpack_from("<III", extra, index * 12)
            bits = offset >> 24 if flag else 0
            offset = offset & 0xFFFFFF if flag else offset
            description = self.describe(type)
            if bits:
                width = 8 * self.size(type)
                start = offset // width * width
                description = {"kind": "bitfield", "bit_position": offset - start, "bit_length": bits, "type": description}
                offset = start
            key = self.name(name) or f"unnamed_field_{index}"
            fields[key] = {"type": description, "offset": offset // 8}
            if not self.name(name):
                fields[key]["anonymous"] = True
        return fields

    def size(self, number):
        while self.types[number][0] in (8, 9, 10, 11, 18):
            number = self.types[number][4]
        return max(1, self.types[number][4])

    def isf(self):
        base = {
            "void": {"size": 0, "signed": False, "kind": "void", "endian": "little"},
            "pointer": {"size": 8, "signed": False, "kind": "int", "endian": "little"},
        }
        user, enums = {}, {}
        for number, (kind, name, count, flag, size, extra) in enumerate(self.types):
            if kind == 1:
                text = self.name(name)
                word = "bool" if text == "_Bool" else "char" if text in ("char", "unsigned char") else "int"
                base[text] = {"size": size, "signed": self.is_signed(number), "kind": word, "endian": "little"}
            elif kind == 16:
                base[self.name(name)] = {"size": size, "signed": True, "kind": "float", "endian": "little"}
            elif kind in (4, 5):
                user[self.type_name(number)] = {
                    "size": size, "kind": "union" if kind == 5 else "struct", "fields": self.members(number)}
            elif kind in (6, 19):
                each = 8 if kind == 6 else 12
                constants = {}
                for index in range(count):
                    item, value = struct.unpack_from("<Ii" if kind == 6 else "<Iq", extra, index * each)
                    constants[self.name(item)] = value
                enums[self.type_name(number)] = {
                    "size": size, "base": "int" if size == 4 else "long int", "constants": constants}
        # What is declared and never defined still needs a name to point to.
        for kind, name, count, flag, size, extra in self.types:
            if kind == 7:
                user.setdefault(self.name(name), {"size": 0, "kind": "union" if flag else "struct", "fields": {}})
        return base, user, enums


def main():
    btf_path, symbols_path, banner_path, out = sys.argv[1:]
    base, user, enums = BTF(open(btf_path, "rb").read()).isf()
    addresses = {}
    for line in open(symbols_path, encoding="latin-1"):
        parts = line.split()
        if len(parts) == 3:
            addresses.setdefault(parts[2], int(parts[0], 16))
    slide = addresses["_text"] - LINKED_AT
    symbols = {}
    for name, address in addresses.items():
        symbols[name] = {"address": address - slide if address >= LINKED_AT else address}
        if name in GLOBALS:
            wanted = GLOBALS[name]
            target = wanted.lstrip("*")
            kind = "struct" if target in user else "base"
            type = {"kind": kind, "name": target}
            symbols[name]["type"] = {"kind": "pointer", "subtype": type} if wanted[0] == "*" else type
    banner = open(banner_path, "rb").read().rstrip(b"\n") + b"\n\0"
    symbols["linux_banner"]["constant_data"] = base64.b64encode(banner).decode()
    symbols["linux_banner"]["type"] = {"kind": "array", "count": len(banner), "subtype": {"kind": "base", "name": "char"}}
    json.dump(
        {
            "metadata": {"format": "6.2.0", "producer": {"name": "grass", "version": "1.0.0"}},
            "base_types": base, "user_types": user, "enums": enums, "symbols": symbols,
        }, open(out, "w"))


main()

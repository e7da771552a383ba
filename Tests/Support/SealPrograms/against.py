#!/usr/bin/env python3
"""Compares the core with python's `cryptography` (OpenSSL) and hashlib on random cases.

    against.py LIBRARY [CASES] [SEED]

LIBRARY is Sources/Between/CSeal as a shared library. A case is one of each operation, of random lengths.
"""
import ctypes
import hashlib
import hmac
import random
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.poly1305 import Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

seal = ctypes.CDLL(sys.argv[1])
cases = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().getrandbits(32)
rng = random.Random(seed)
for name in ("grass_seal", "grass_open", "grass_x25519", "grass_hkdf_expand", "grass_random_fill"):
    getattr(seal, name).restype = ctypes.c_bool
size = ctypes.c_uint64
P = 2**255 - 19


def length():
    """Mostly short, around the borders of blocks, and sometimes long."""
    kind = rng.randrange(10)
    if kind < 5:
        return rng.randrange(0, 200)
    if kind < 8:
        return max(0, rng.choice((16, 64, 128, 256, 320, 512, 1024)) + rng.randrange(-2, 3))
    return rng.randrange(0, 6000)


def text(count):
    kind = rng.randrange(8)
    if kind == 0:
        return bytes(count)
    if kind == 1:
        return b"\xff" * count
    return rng.randbytes(count)


def buffer(count):
    return ctypes.create_string_buffer(count + 16)


def check(condition, *what):
    if not condition:
        sys.exit(f"against: seed {seed}: differs: {what}")


def aead():
    key, nonce, data, plain = text(32), text(12), text(length() % 300), text(length())
    expected = ChaCha20Poly1305(key).encrypt(nonce, plain, data)
    sealed, tag, opened = buffer(len(plain)), buffer(0), buffer(len(plain))
    check(seal.grass_seal(key, nonce, data, size(len(data)), plain, size(len(plain)), sealed, tag))
    check(sealed.raw[: len(plain)] + tag.raw[:16] == expected, "seal", key, nonce, data, plain)
    check(seal.grass_open(key, nonce, data, size(len(data)), expected, size(len(plain)), expected[len(plain) :], opened))
    check(opened.raw[: len(plain)] == plain, "open", key, nonce, data, plain)
    # One bit of it is another.
    bad = bytearray(expected)
    bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    opened = buffer(len(plain))
    check(
        not seal.grass_open(
            key, nonce, data, size(len(data)), bytes(bad), size(len(plain)), bytes(bad[len(plain) :]), opened),
        "opens", key, nonce, data, plain, bad)
    check(opened.raw == bytes(len(plain) + 16), "wrote", key, nonce, data, plain, bad)
    try:
        ChaCha20Poly1305(key).decrypt(nonce, bytes(bad), data)
        check(False, "the other opens")
    except InvalidTag:
        pass


def stream():
    key, nonce, counter, plain = text(32), text(12), rng.randrange(2**31), text(length())
    other = Cipher(algorithms.ChaCha20(key, counter.to_bytes(4, "little") + nonce), None).encryptor().update(plain)
    out = buffer(len(plain))
    seal.grass_chacha20_xor(key, nonce, ctypes.c_uint32(counter), plain, out, size(len(plain)))
    check(out.raw[: len(plain)] == other, "chacha20", key, nonce, counter, plain)


def poly1305():
    key, plain, tag = text(32), text(length()), buffer(0)
    seal.grass_poly1305(key, plain, size(len(plain)), tag)
    check(tag.raw[:16] == Poly1305.generate_tag(key, plain), "poly1305", key, plain)


def sha256():
    plain, key, out = text(length()), text(length() % 200), buffer(32)
    seal.grass_sha256(plain, size(len(plain)), out)
    check(out.raw[:32] == hashlib.sha256(plain).digest(), "sha256", plain)
    seal.grass_hmac(key, size(len(key)), plain, size(len(plain)), out)
    check(out.raw[:32] == hmac.new(key, plain, "sha256").digest(), "hmac", key, plain)


def hkdf():
    salt, material, info = text(length() % 100), text(length() % 100), text(length() % 100)
    count = rng.randrange(1, 1 + 255 * 32)
    if rng.randrange(4):
        count = 1 + count % 100
    key, out = buffer(32), buffer(count)
    seal.grass_hkdf_extract(salt, size(len(salt)), material, size(len(material)), key)
    check(seal.grass_hkdf_expand(key, info, size(len(info)), out, size(count)))
    check(out.raw[:count] == HKDF(hashes.SHA256(), count, salt, info).derive(material), "hkdf", salt, material, info, count)
    # Noise's with two and three outputs is HKDF without info.
    outputs = rng.randrange(1, 4)
    chaining, out = text(32), buffer(96)
    seal.grass_noise_hkdf(chaining, material, size(len(material)), out, outputs)
    check(
        out.raw[: 32 * outputs] == HKDF(hashes.SHA256(), 32 * outputs, chaining, b"").derive(material),
        "noise hkdf", chaining, material)


def x25519():
    private = text(32)
    kind = rng.randrange(6)
    if kind == 0:  # Not canonical, or close to it.
        public = ((P + rng.randrange(-30, 19)) % 2**255 | rng.randrange(2) << 255).to_bytes(32, "little")
    elif kind == 1:  # Small.
        public = (rng.randrange(30) | rng.randrange(2) << 255).to_bytes(32, "little")
    elif kind == 2:  # Long carries.
        public = bytes(rng.choice((0, 255, 255, 254, 1, 127, 128)) for _ in range(32))
    else:
        public = rng.randbytes(32)
    out = buffer(32)
    found = seal.grass_x25519(out, private, public)
    try:
        other = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        other = None
    check(found == (other is not None), "x25519 refuses", private, public)
    check(out.raw[:32] == (other or bytes(32)), "x25519", private, public)
    seal.grass_x25519_public(out, private)
    key = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    check(out.raw[:32] == key, "x25519 public", private)


class CipherState(ctypes.Structure):
    _fields_ = [("key", ctypes.c_uint8 * 32), ("nonce", ctypes.c_uint64)]


def rekey():
    key, number = text(32), rng.getrandbits(63)
    cipher = CipherState((ctypes.c_uint8 * 32)(*key), number)
    seal.grass_cipher_rekey(ctypes.byref(cipher))
    other = ChaCha20Poly1305(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]
    check(bytes(cipher.key) == other and cipher.nonce == number, "rekey", key)


def generator():
    """What grass_random.h describes, once more."""
    state, key, left = ctypes.create_string_buffer(32 + 480 + 8), bytes(32), b""
    for _ in range(rng.randrange(1, 5)):
        seed_bytes = text(32 + length() % 100)
        seal.grass_random_mix(state, seed_bytes, size(len(seed_bytes)))
        key, left = hmac.new(key, seed_bytes, "sha256").digest(), b""
        for _ in range(rng.randrange(4)):
            count = length()
            while len(left) < count:
                stream = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor().update(bytes(64 + 480))
                key, left = stream[:32], left + stream[64:]
            out = buffer(count)
            check(seal.grass_random_fill(state, out, size(count)))
            check(out.raw[:count] == left[:count], "generator")
            left = left[count:]


operations = (aead, stream, poly1305, sha256, hkdf, x25519, rekey, generator)
for _ in range(cases):
    for operation in operations:
        operation()
print(f"against: seed {seed}: {cases} random cases of each of {', '.join(o.__name__ for o in operations)} agree")

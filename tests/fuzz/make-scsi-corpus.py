#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make-scsi-corpus FOLDER: the inputs that fuzz-scsi-cdb begins with: each command of operations.c once as it is
meant, and the sequences in which state matters."""
import os
import struct
import sys

SECOND, HALF, CANCEL, MANAGE, OTHER_LUN = 1, 2, 4, 8, 16


def command(cdb, data=b"", flags=0):
    return bytes([flags, 0]) + bytes(cdb).ljust(16, b"\0") + struct.pack(">H", len(data)) + data


def rw(opcode, lba, blocks, data=b"", byte1=0, flags=0):
    if opcode >> 5 == 4:
        cdb = struct.pack(">BBQIBB", opcode, byte1, lba, blocks, 0, 0)
    elif opcode >> 5 == 5:
        cdb = struct.pack(">BBIIBB", opcode, byte1, lba, blocks, 0, 0)
    elif opcode >> 5 == 0:
        cdb = struct.pack(">BBHBB", opcode, 0, lba, blocks, 0)
    else:
        cdb = struct.pack(">BBIBHB", opcode, byte1, lba, 0, blocks, 0)
    return command(cdb, data, flags)


def allocation(opcode, action, length=255, size=16):
    at = {16: 10, 12: 6, 10: 7}[size]
    cdb = bytearray(16)
    cdb[0], cdb[1] = opcode, action
    cdb[at:at + (2 if size == 10 else 4)] = length.to_bytes(2 if size == 10 else 4, "big")
    return command(cdb)


def reserve_out(action, kind, key=0, new=0, more=b"", flags=0, bits=0):
    data = struct.pack(">QQ4xBxxx", key, new, bits) + more
    return command(struct.pack(">BBBxxIB", 0x5F, action, kind, len(data), 0), data, flags)


block = bytes(range(256)) * 2
naa = bytes([0xE4, 0, 0, 0, 0x01, 0x03, 0, 8]) + bytes(8) + bytes(12) + b"\0\0\2\0"
segment = struct.pack(">BBHHHHHQQ", 2, 0, 0x18, 0, 0, 0, 8, 0, 64)
name = b"iqn.2026-01.org.example:third,i,0x800000000009"
transport = bytes([0x45, 0]) + struct.pack(">H", (len(name) + 4) // 4 * 4) + name.ljust((len(name) + 4) // 4 * 4, b"\0")
INPUTS = {
    "ready": command([0]), "sense": command([3, 1, 0, 0, 255]), "luns": allocation(0xA0, 0, size=12),
    "inquiry": b"".join(command([0x12, 1, page, 0, 255]) for page in (0, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8F, 0xB0, 0xB1, 0xB2)),
    "modes": command([0x1A, 0, 0x3F, 0xFF, 255]) + command([0x5A, 0x10, 0x0A, 1, 0, 0, 0, 0, 255]),
    "mode-select": command([0x15, 0x10, 0, 0, 24], bytes([0, 0, 0, 0, 8, 18, 4]) + bytes(17)) + command([0x15, 0x10, 0, 0, 16],
                           bytes([0, 0, 0, 0, 0x0A, 10, 4, 0x10, 8]) + bytes(7)),
    "reads": b"".join(rw(o, 0, 8) for o in (0x08, 0x28, 0xA8, 0x88, 0x34, 0x90, 0x35, 0x91)),
    "writes": b"".join(rw(o, 1, 1, block) for o in (0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x8B)),
    "verify": b"".join(rw(o, 1, 1, block, byte1) for o in (0x2F, 0xAF, 0x8F) for byte1 in (0, 2, 6)),
    "ends": rw(0x28, 16383, 1) + rw(0x28, 16383, 2) + rw(0x88, 2**63, 1) + rw(0x2A, 0, 0) + rw(0x28, 0, 65535),
    "compare": command(struct.pack(">BBQ3xBBB", 0x89, 0, 0, 1, 0, 0), bytes(512) + block) + command(
        struct.pack(">BBQ3xBBB", 0x89, 0, 0, 1, 0, 0), bytes(512) + block),
    "atomic": command(struct.pack(">BBQHHBB", 0x9C, 0, 0, 0, 2, 0, 0), block * 2),
    "same": rw(0x41, 0, 8, block) + rw(0x93, 8, 8, bytes(512), 8) + rw(0x93, 16, 0, b"", 1) + rw(0x93, 0, 4, b"", 9),
    "unmap": command([0x42, 0, 0, 0, 0, 0, 0, 0, 40], struct.pack(">HH4xQI4xQI4x", 38, 32, 0, 8, 64, 8)),
    "status": command(struct.pack(">BBQIBB", 0x9E, 0x12, 0, 64, 0, 0)) + allocation(0x9E, 0x10) + command([0x25] + [0] * 9),
    "copy": command(struct.pack(">BB8xI", 0x83, 0, 16 + 32 + 28), struct.pack(">BBHxxxxII", 1, 0, 32, 28, 0) + naa + segment)
            + allocation(0x84, 0) + allocation(0x84, 3),
    "opcodes": allocation(0xA3, 0x0C, 4096, 12) + command([0xA3, 0x0C, 0x83, 0x89, 0, 0, 0, 0, 0, 64]) + allocation(0xA3, 0x0D, size=12)
               + allocation(0xA3, 0x0A, size=12) + command([0x4D, 0, 0x0C, 0, 0, 0, 0, 0, 255]),
    "keys": reserve_out(0, 0, 0, 7) + reserve_out(0, 0, 0, 8, flags=SECOND) + reserve_out(1, 5, 7) + allocation(0x5E, 0, size=10)
            + allocation(0x5E, 1, size=10) + allocation(0x5E, 2, size=10) + allocation(0x5E, 3, 1024, 10) + rw(0x2A, 0, 1, block, flags=SECOND)
            + reserve_out(5, 5, 8, 7, flags=SECOND) + reserve_out(2, 5, 8, flags=SECOND) + reserve_out(3, 0, 8, flags=SECOND),
    "keys-ports": reserve_out(0, 0, 0, 9, struct.pack(">I", len(transport)) + transport, bits=8) + reserve_out(6, 0, 0, 4, bits=5),
    "move": reserve_out(0, 0, 0, 7) + reserve_out(1, 1, 7) + command(
        struct.pack(">BBBxxIB", 0x5F, 7, 0, 24 + len(transport), 0),
        struct.pack(">QQxBHI", 7, 11, 1, 1, len(transport)) + transport),
    "reserve": command([0x16]) + rw(0x28, 0, 1, flags=SECOND) + command([0x17], flags=SECOND) + command([0x17]),
    "sanitize": command([0x48, 0x82]) + command([0]) + command([0x48, 0x81, 0, 0, 0, 0, 0, 0, 5], bytes([1, 0, 0, 1, 9])) + command([0x48, 0x9F]),
    "format": command([4, 0x10], bytes([0, 2, 0, 0])) + command([4]),
    "other-lun": command([0x12, 0, 0, 0, 96], flags=OTHER_LUN) + rw(0x28, 0, 1, flags=OTHER_LUN),
    "manage": b"".join(command([f], flags=MANAGE) for f in range(1, 13)) + command([5], flags=MANAGE | SECOND),
    "half": rw(0x2A, 0, 4, block * 2, flags=HALF) + rw(0x28, 0, 4, flags=HALF) + rw(0x41, 0, 4, block, flags=HALF),
    "cancel": rw(0x2A, 0, 4, block * 2, flags=CANCEL) + rw(0x28, 0, 1),
    "defects": command([0x37, 0, 0x1D, 0, 0, 0, 0, 0, 64]) + command([0xB7, 0x1D, 0, 0, 0, 0, 0, 0, 0, 64]) + command([0x1B, 0, 0, 0, 1])
               + command([0x1D, 4]) + command([0x1E, 0, 0, 0, 1]),
}
os.makedirs(sys.argv[1], exist_ok=True)
for key, value in INPUTS.items():
    with open(os.path.join(sys.argv[1], key), "wb") as file:
        file.write(value)

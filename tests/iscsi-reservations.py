# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-reservations.py PORT TARGET INITIATOR[#ISID] ORDER...: one initiator's persistent reservations, an order a line.

    register KEY [OLD]      REGISTER
    ignore KEY              REGISTER AND IGNORE EXISTING KEY
    reserve KEY [TYPE]      RESERVE; TYPE 1 (write exclusive) if nothing is said
    release KEY [TYPE]      RELEASE
    preempt KEY VICTIM      PREEMPT, of type 1
    clear KEY               CLEAR
    write                   one block
    keys                    of READ KEYS, in rising order, and its generation
    held                    of READ RESERVATION: the key and the type, or "free"

A command that changes something says good, conflict, or its sense.  Each waits for the answer of the one before.
"""
import struct
import sys

import iscsi_initiator as iscsi

ACTIONS = {"register": 0, "reserve": 1, "release": 2, "clear": 3, "preempt": 4, "ignore": 6}


def ask(path, cdb, flags=iscsi.FINAL, length=0, data=b""):
    """Past the unit attentions of a new nexus."""
    for _ in range(8):
        status, got, response = path.command(cdb.ljust(16, b"\0"), flags, length, data)
        if status != 2 or response.data[4] & 0xF != 6:
            return status, got, response
    raise AssertionError("unit attentions without end")


def said(answer):
    status, _, response = answer
    if status == 2:
        return "%02x/%02x/%02x" % (response.data[4] & 0xF, response.data[14], response.data[15])
    return {0: "good", 0x18: "conflict"}.get(status, "status %s" % status)


def change(path, order, key, more):
    action, kind, action_key = ACTIONS[order], 0, 0
    key = int(key, 16)
    if order in ("register", "ignore"):
        key, action_key = int(more, 16) if more else 0, key
    elif order == "preempt":
        kind, action_key = 1, int(more, 16)
    elif order != "clear":
        kind = int(more or 1)
    parameters = struct.pack(">QQ4xB3x", key, action_key, iscsi_reservations_flags)
    cdb = struct.pack(">BBB2xIx", 0x5F, action, kind, len(parameters))
    return said(ask(path, cdb, iscsi.FINAL | iscsi.WRITE, len(parameters), parameters))


def read_in(path, action):
    status, data, _ = ask(path, struct.pack(">BB5xHx", 0x5E, action, 4096), iscsi.FINAL | iscsi.READ, 4096)
    assert status == 0, status
    generation, length = struct.unpack(">II", data[:8])
    return generation, data[8:8 + length]


def keys(path):
    generation, data = read_in(path, 0)
    found = sorted("%x" % struct.unpack_from(">Q", data, at)[0] for at in range(0, len(data), 8))
    return ",".join([" ".join(found)] * bool(found) + ["generation %u" % generation])


def held(path):
    _, data = read_in(path, 1)
    return "%x type %u" % (struct.unpack(">Q", data[:8])[0], data[13] & 15) if data else "free"


def carry_out(path, order, *words):
    if order == "keys":
        return keys(path)
    if order == "held":
        return held(path)
    if order == "write":
        return said(ask(path, iscsi.write10(0, 1), iscsi.FINAL | iscsi.WRITE, 512, b"w" * 512))
    return change(path, order, words[0], words[1] if len(words) > 1 else None)


iscsi_reservations_flags = 0
port, target, name, *orders = sys.argv[1:]
name, _, number = name.partition("#")
if orders and orders[0] == "aptpl":
    iscsi_reservations_flags = 1
    orders = orders[1:]
session = iscsi.Initiator(int(port), name="iqn.2001-04.com.example:" + name)
session.isid = b"\x80\0\0\0\0" + bytes([int(number or 1)])
session.login(target)
for one in orders:
    print(carry_out(session, *one.split()), flush=True)

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-atomic-load PORT TARGET NBD-URI ROUNDS: a line "kill" asks for the gateway to be killed and restarted, a line
"" on standard input says that it was.  In each round WRITE ATOMIC commands of 64 KiB and of other lengths, several
in flight, go to ranges that overlap, until the gateway is killed amid them; then an NBD client looks: each range
is as one of the writes in flight, or the last one that was answered, has left it, and never half of one."""
import random
import struct
import sys
import time

import nbd
from iscsi_initiator import *

PORT, TARGET, URI, ROUNDS = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
SLOT_BLOCKS, SLOTS, DEPTH = 128, 16, 4
BYTES = SLOT_BLOCKS * 512


def connect(make):
    end = time.monotonic() + 20
    while True:
        try:
            return make()
        except (OSError, Closed, nbd.Error, AssertionError):
            assert time.monotonic() < end, "the gateway does not come back"
            time.sleep(0.01)


def nbd_client():
    h = nbd.NBD()
    h.connect_uri(URI)
    return h


def initiator():
    return Initiator(PORT).login(TARGET, "ImmediateData=Yes", "InitialR2T=No", "FirstBurstLength=262144").settle()


value, settled, answered = 1, [0] * SLOTS, 0
h = connect(nbd_client)
h.pwrite(bytes(SLOTS * BYTES), 0)
h.flush()
for number in range(ROUNDS):
    i = connect(initiator)
    flying, want = {}, random.randrange(20, 200)
    asked = False
    try:
        while True:
            while len(flying) < DEPTH:
                slot = random.choice([s for s in range(SLOTS) if s not in [f[0] for f in flying.values()]])
                cdb = struct.pack(">BBQHHBB", 0x9C, 0, slot * SLOT_BLOCKS, 0, SLOT_BLOCKS, 0, 0)
                head = i.command_head(cdb, FINAL | WRITE, BYTES)
                flying[i.tag] = (slot, value)  # before it is sent: who knows how far it gets
                i.send(head, struct.pack(">Q", value) * (BYTES // 8))
                value += 1
            pdu = i.receive()
            assert pdu.opcode == RESPONSE and pdu.head[3] == 0, (pdu.opcode, pdu.data)
            slot, written = flying.pop(pdu.u32(16))
            settled[slot] = written
            answered += 1
            want -= 1
            if want == 0 and not asked:
                asked = True
                print("kill", flush=True)
    except (Closed, OSError):
        pass
    sys.stdin.readline()
    h = connect(nbd_client)
    for slot in range(SLOTS):
        seen = set(struct.unpack(">%dQ" % (BYTES // 8), h.pread(BYTES, slot * BYTES)))
        allowed = {settled[slot]} | {f[1] for f in flying.values() if f[0] == slot}
        assert len(seen) == 1 and seen <= allowed, "slot %d has %s, not one of %s" % (slot, sorted(seen)[:4], allowed)
        settled[slot] = seen.pop()
print("%d atomic writes answered, %d kills amid others" % (answered, ROUNDS), flush=True)

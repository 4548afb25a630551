#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-beside-nbd PORT TARGET NBD-URI SECONDS: one initiator changes blocks by COMPARE AND WRITE while an NBD
client writes the same ones.  Every value is new, and fills its range.  A value that does not descend from the
one written last means that a write was lost between a comparison and its write.  A read beside a write may
see some of each, and is then repeated; in the end no range may be torn."""
import random
import struct
import sys
import threading
import time

import nbd
from iscsi_initiator import *

PORT, TARGET, URI, SECONDS = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
SLOTS, BLOCKS = 4, 8
BYTES = BLOCKS * 512
parents = {}  # of each value that a COMPARE AND WRITE has put: the one it replaced
counts = {"nbd writes": 0, "replaced": 0, "miscompares": 0, "reads": 0, "of them beside a write": 0}
failures = []
END = time.monotonic() + SECONDS


def fill(value):
    return struct.pack(">Q", value) * (BYTES // 8)


def read_value(read, is_busy=True):
    while True:
        values = set(struct.unpack(">%dQ" % (BYTES // 8), read()))
        counts["reads"] += 1
        if len(values) == 1:
            return values.pop()
        assert is_busy, "a range is torn: %s" % sorted(values)[:4]
        counts["of them beside a write"] += 1


def descends(value, ancestor):
    while value != ancestor:
        if value not in parents:
            return False
        value = parents[value]
    return True


def nbd_side(seen):
    h = nbd.NBD()
    h.connect_uri(URI)
    value = 1
    while time.monotonic() < END and not failures:
        slot = random.randrange(SLOTS)
        h.pwrite(fill(value), slot * BYTES, nbd.CMD_FLAG_FUA if value % 16 == 1 else 0)
        counts["nbd writes"] += 1
        seen.append((value, read_value(lambda: h.pread(BYTES, slot * BYTES))))
        value += 2


def iscsi_side():
    i = Initiator(PORT).login(TARGET, "ImmediateData=Yes", "InitialR2T=No").settle()
    value = 2
    while time.monotonic() < END and not failures:
        at = random.randrange(SLOTS) * BLOCKS
        old = read_value(lambda: i.command(read10(at, BLOCKS), FINAL | READ, BYTES)[1])
        parents[value] = old  # before it can be seen
        status, _, pdu = i.command(struct.pack(">BBQ3xBBB", 0x89, 0, at, BLOCKS, 0, 0), FINAL | WRITE, 2 * BYTES,
                                   fill(old) + fill(value))
        if status == 0:
            counts["replaced"] += 1
        else:
            assert status == 2 and pdu.data[4] & 0xF == 0xE, (status, pdu.data)
            counts["miscompares"] += 1
            del parents[value]
        value += 2


def guarded(function, *arguments):
    try:
        function(*arguments)
    except Exception as e:  # pylint: disable=broad-except
        failures.append(repr(e))


h = nbd.NBD()
h.connect_uri(URI)
h.pwrite(bytes(SLOTS * BYTES), 0)
seen = []
threads = [threading.Thread(target=guarded, args=a) for a in ((nbd_side, seen), (iscsi_side,))]
for t in threads:
    t.start()
for t in threads:
    t.join()
for slot in range(SLOTS):
    guarded(read_value, lambda at=slot * BYTES: h.pread(BYTES, at), False)
lost = [(w, r) for w, r in seen if not descends(r, w)]
print("%s, %d values came from the other side" % (
    ", ".join("%d %s" % (n, what) for what, n in counts.items()), sum(w != r for w, r in seen)))
for f in failures + ["wrote %d, read %d, which does not come from it" % pair for pair in lost[:5]]:
    print("FAILED:", f)
# A stress without a conflict would have tried nothing.
sys.exit(bool(failures or lost) or counts["replaced"] < 100 or counts["miscompares"] < 5)

# SPDX-License-Identifier: BSD-3-Clause
"""SANITIZE as an initiator sends it: iscsi-sanitize.py PORT TARGET fill|overwrite|erase|refused|wait [MARKER MIB].

fill writes the marker all over, by WRITE (10), and again at the front by WRITE ATOMIC; overwrite and erase send
the order, with IMMED, and end when it has been taken; refused sees that it is not, and the disk ready as before; wait ends when the disk is ready again, and says what the
sense data were until then."""
import struct
import sys
import time

from iscsi_initiator import *

CHUNK = 65536


def session(port, target):
    end = time.monotonic() + 60
    while True:
        try:
            return Initiator(port).login(target, "ImmediateData=Yes", "InitialR2T=No", "FirstBurstLength=262144")
        except (OSError, Closed, AssertionError):
            assert time.monotonic() < end, "no login"
            time.sleep(0.05)


def fill(i, marker, mib):
    i.settle()
    data = marker * (CHUNK // len(marker))
    for at in range(0, mib << 20, CHUNK):
        status, _, _ = i.command(write10(at // 512, CHUNK // 512), FINAL | WRITE, CHUNK, data)
        assert status == 0, "write: %s" % status
    cdb = struct.pack(">BBQHHBB", 0x9C, 0, 0, 0, CHUNK // 512, 0, 0)
    assert i.command(cdb, FINAL | WRITE, CHUNK, data)[0] == 0, "atomic write"


def order(i, service_action, parameters, expect=""):
    i.settle()
    cdb = struct.pack(">BB5xHx", 0x48, 0x80 | service_action, len(parameters))
    flags = FINAL | (WRITE if parameters else 0)
    status, _, answer = i.command(cdb, flags, len(parameters), parameters)
    said = "%02x/%02x/%02x" % (answer.data[4] & 15, answer.data[14], answer.data[15]) if status == 2 else ""
    assert status in (0, 2) and said == expect, (status, answer.data.hex())


def wait(i):
    seen, end = set(), time.monotonic() + 240
    while True:
        status, _, answer = i.command(bytes(6))
        if status == 0:
            break
        sense = answer.data[2:]
        code = "%02x/%02x/%02x" % (sense[2] & 15, sense[12], sense[13])
        seen.add(code)
        assert code[:2] == "06" or code == "02/04/1b", "the erasure failed: " + code
        assert time.monotonic() < end, "the disk is not ready"
        time.sleep(0.02)
    print(" ".join(sorted(seen)) or "ready at once")


def main():
    i = session(int(sys.argv[1]), sys.argv[2])
    what = sys.argv[3]
    if what == "fill":
        fill(i, sys.argv[4].encode(), int(sys.argv[5]))
    elif what == "overwrite":
        order(i, 1, struct.pack(">BBH", 1, 0, 4) + b"\x55\xaa\x33\xcc")
    elif what == "erase":
        order(i, 2, b"")
    elif what == "refused":
        order(i, 2, b"", "05/2c/00")
        assert i.test_unit_ready() == 0, "not ready after an order that was refused"
    else:
        wait(i)


main()

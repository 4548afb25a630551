# SPDX-License-Identifier: BSD-3-Clause
"""What initiators of thin disks d and e see, in a file system of 32 MiB that they fill:
iscsi-thin-threshold.py PORT PREFIX warned PERCENT|told PERCENT|silent."""
import struct
import sys
import time

from iscsi_initiator import *

MIB = 1 << 20
PIECE = MIB // 4  # what may come unasked
WHOLE = 32
WARNED, FULL = "06/38/07", "07/27/07"


class Host(Initiator):
    def __init__(self, name, disk):
        super().__init__(int(sys.argv[1]), "iqn.2001-04.com.example:" + name)
        self.login("%s:%s" % (sys.argv[2], disk), "ImmediateData=Yes", "InitialR2T=No", "FirstBurstLength=%d" % PIECE,
                   "MaxBurstLength=1048576").settle()

    def sense_of(self, *command, **more):
        """"" for GOOD, else the sense code."""
        status, self.got, pdu = self.command(*command, **more)
        if status == 0:
            return ""
        assert status == 2, status
        return "%02x/%02x/%02x" % (pdu.data[4] & 15, pdu.data[14], pdu.data[15])

    def ready(self):
        return self.sense_of(bytes(6))

    def write(self, mib):
        for at in range(mib * 2048, (mib + 1) * 2048, PIECE // 512):
            sense = self.sense_of(write10(at, PIECE // 512), FINAL | WRITE, PIECE, bytes([mib + 1]) * PIECE)
            if sense:
                return sense
        return ""

    def read(self, mib):
        assert self.sense_of(read10(mib * 2048, 2048), FINAL | READ, MIB) == ""
        return self.got

    def unmap(self, mib, count):
        data = struct.pack(">HH4xQI4x", 22, 16, mib * 2048, count * 2048)
        assert self.sense_of(struct.pack(">B6xHx", 0x42, len(data)), FINAL | WRITE, len(data), data) == ""

    def look(self):
        """The log page's MiB that are left and used, or the sense."""
        self.said = self.sense_of(struct.pack(">BBB4xHx", 0x4D, 0, 0x4C, 64), FINAL | READ, 64)
        if not self.said and len(self.got) > 20:
            self.room, self.used = struct.unpack_from(">I", self.got, 8)[0], struct.unpack_from(">I", self.got, 20)[0]
        return self.said

    def space(self):
        assert self.look() == "", self.said
        return self.room, self.used

    def threshold(self):
        """(ENABLED, MiB) of the mode page of logical block provisioning, with the resource and the arming."""
        assert self.sense_of(struct.pack(">BBBB3xHx", 0x5A, 8, 0x1C, 2, 64), FINAL | READ, 64) == ""
        assert self.got[8:12] == b"\x5c\x02\x00\x14", self.got[8:12].hex()
        d = self.got[24:32]
        assert d[0] & 0x7F == 0 and d[1] == 1, d.hex()
        return d[0] >> 7, struct.unpack(">I", d[4:])[0]


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, "not within %d s" % seconds
        time.sleep(0.05)


def fill(host, first, until_left):
    """Writes whole MiBs, until so many are left by the gateway's own word, which comes once in a while: half of what is
    to go each time; the next."""
    while until(lambda: host.space()[0]) > until_left:
        before = host.space()[0]
        count = (before - until_left + 1) // 2
        assert [host.write(mib) for mib in range(first, first + count)] == [""] * count
        first += count
        until(lambda: host.space()[0] <= before - count)
    return first


def fill_until_warned(host, first):
    while True:
        before = host.space()[0]
        assert host.write(first) == ""
        first += 1
        until(lambda: host.look() or host.room < before)
        if host.said:
            assert host.said == WARNED, host.said
            return first
        assert before > 1, "not warned anew"


def warned(percent):
    one, two, other = Host("one", "d"), Host("two", "d"), Host("other", "e")
    limit = WHOLE * percent // 100
    until(lambda: one.threshold()[0])
    assert one.threshold() == (1, limit), one.threshold()
    empty = until(lambda: one.space()[0])
    end = fill(one, 0, limit + 2)
    assert [h.ready() for h in (one, two, other)] == [""] * 3, "warned too early"
    for host in (one, two, other):  # all of them, whoever wrote
        if host is one:
            assert one.write(end) == one.write(end + 1) == one.write(end + 2) == ""
            end += 3
        assert until(host.ready) == WARNED
    answers = []
    while FULL not in answers:
        answers.append(one.write(end + len(answers)))
        assert len(answers) <= limit + 1, answers
    assert set(answers) == {"", FULL}, answers
    end += len(answers) - 1
    assert all(h.ready() == "" for h in (one, two, other)), "warned twice"
    for mib in range(end):
        assert one.read(mib) == bytes([mib + 1]) * MIB, "MiB %d was acknowledged" % mib
    one.unmap(0, end)
    until(lambda: one.space()[0] >= empty)
    again = fill(one, 0, limit + 2)
    assert fill_until_warned(one, again) > 4
    print("warned with %d of %d MiB left, full after %d MiB" % (limit, WHOLE, end))


def told(percent):
    one = Host("one", "e")
    until(lambda: one.threshold() == (1, WHOLE * percent // 100))


def silent():
    one = Host("one", "e")
    until(lambda: one.threshold() == (0, 0))
    assert one.ready() == ""


{"warned": warned, "told": told, "silent": silent}[sys.argv[3]](*map(int, sys.argv[4:]))

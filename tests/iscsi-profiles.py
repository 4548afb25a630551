#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-profiles PORT TARGET STATUS-COMMAND...: what three kinds of hosts send that no test of ours runs, in their order
and with what they make of the answers: an ESXi host's scan, its VMFS and ATS heartbeat with another host, and a
clone by EXTENDED COPY; the storage tests of a Windows cluster's validation with two nodes; the probe of XenServer.
LUN 0 and 1 of the target are disks of at least 16 MiB."""
import json
import socket
import struct
import subprocess
import sys

from iscsi_initiator import *

PORT, TARGET, STATUS = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
PROFILES = []
SECTOR = 512


def profile(function):
    PROFILES.append(function)
    return function


class Host(Initiator):
    def __init__(self, name, isid=1):
        super().__init__(PORT, name)
        self.isid = b"\x80\0\0\0\0" + bytes([isid])
        self.login(TARGET, "ImmediateData=Yes", "InitialR2T=No", "FirstBurstLength=262144", "MaxBurstLength=1048576")

    def ask(self, cdb, length=0, lun=0, data=b"", expect=0):
        """One command; a unit attention is taken and the command sent again, as hosts do."""
        for _ in range(8):
            flags = FINAL | (WRITE if data else READ if length else 0)
            status, got, pdu = self.command(bytes(cdb), flags, len(data) or length, data, lun=lun << 48)
            if status == 2 and pdu.data[4] & 0xF == 6:
                continue
            key = pdu.data[4] & 0xF if status == 2 else 0
            assert (status, key) == (expect if isinstance(expect, tuple) else (expect, 0)), (
                "%s: %s" % (bytes(cdb).hex(), (status, key, pdu.data.hex())))
            return got
        raise AssertionError("unit attentions without end")

    def page(self, code, lun=0):
        got = self.ask([0x12, 1, code, 2, 0, 0], 512, lun)
        assert got[1] == code
        return got[4:4 + struct.unpack(">H", got[2:4])[0]]

    def read(self, lba, blocks, lun=0, **more):
        return self.ask(struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0), blocks * SECTOR, lun, **more)

    def write(self, lba, data, lun=0, **more):
        return self.ask(struct.pack(">BBQIBB", 0x8A, 0, lba, len(data) // SECTOR, 0, 0), 0, lun, data, **more)

    def ats(self, lba, old, new, **more):
        return self.ask(struct.pack(">BBQ3xBBB", 0x89, 0, lba, len(old) // SECTOR, 0, 0), 0, 0, old + new, **more)

    def reserve_out(self, action, kind=0, key=0, new=0, flags=0, **more):
        return self.ask(struct.pack(">BBBxxIB", 0x5F, action, kind, 24, 0), 0, 0, struct.pack(">QQ4xBxxx", key, new, flags), **more)

    def keys(self):
        got = self.ask([0x5E, 0, 0, 0, 0, 0, 0, 1, 0, 0], 256)
        return [struct.unpack_from(">Q", got, 8 + 8 * i)[0] for i in range(struct.unpack(">I", got[4:8])[0] // 8)]

    def holder(self):
        got = self.ask([0x5E, 1, 0, 0, 0, 0, 0, 1, 0, 0], 256)
        return (struct.unpack(">Q", got[8:16])[0], got[21]) if struct.unpack(">I", got[4:8])[0] else None


def naa_of(host, lun):
    page = host.page(0x83, lun)
    at = 0
    while at < len(page):
        if page[at + 1] & 0x3F == 3:
            return page[at + 4:at + 4 + page[at + 3]]
        at += 4 + page[at + 3]
    raise AssertionError("no NAA name")


def scan(host):
    """Names, capacity and what a path is good for, of every LUN."""
    got = host.ask(struct.pack(">B5xIxx", 0xA0, 4096), 4096)
    luns = [struct.unpack_from(">Q", got, 8 + 8 * i)[0] >> 48 for i in range(struct.unpack(">I", got[:4])[0] // 8)]
    assert 0 in luns and 1 in luns, luns
    for lun in luns:
        inquiry = host.ask([0x12, 0, 0, 0, 96, 0], 96, lun)
        assert inquiry[0] == 0 and inquiry[8:16] == b"SLUICE  ", inquiry
        assert inquiry[5] >> 4 & 3 == 1, "implicit ALUA is not told"
        host.ask([0x00] + [0] * 5, 0, lun)
        assert set(b"\x00\x80\x83\xb0\xb1\xb2") <= set(host.page(0, lun))
        capacity = host.ask(struct.pack(">BB8xIxx", 0x9E, 0x10, 32), 32, lun)
        assert struct.unpack(">I", capacity[8:12])[0] == SECTOR and struct.unpack(">Q", capacity[:8])[0] >= 32767
    return luns


@profile
def esxi():
    """Scan; claim by VAAI; ATS heartbeat of two hosts; dead space; a clone."""
    first, second = Host("iqn.1998-01.com.vmware:esx1"), Host("iqn.1998-01.com.vmware:esx2")
    scan(first)
    groups = first.ask([0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256)
    assert groups[4] & 0xF == 0, "the path is not active/optimized"
    names = [naa_of(first, lun) for lun in (0, 1)]
    assert names[0] != names[1] and names == [naa_of(second, lun) for lun in (0, 1)], "names differ between hosts"
    # VAAI: what of 41/93, 42, 83, 89 is there is asked by commands, by page B0 and B2 and by RSOC.
    limits, provisioning = first.page(0xB0), first.page(0xB2)
    assert limits[1] >= 1 and struct.unpack(">I", limits[16:20])[0], "no ATS or no UNMAP"
    granularity = struct.unpack(">I", limits[24:28])[0] * SECTOR
    assert granularity <= 1 << 20 and (1 << 20) % granularity == 0, "VMFS 6 would not give back space"
    assert provisioning[1] & 0xE0 == 0xE0, "LBPU, LBPWS, LBPWS10"
    for opcode in (0x89, 0x83, 0x93, 0x42):
        got = first.ask([0xA3, 0x0C, 3, opcode, 0, 0, 0, 0, 0, 64, 0, 0], 64)
        assert got[1] & 7 == 3, hex(opcode)
    # The format of a datastore: zeros by WRITE SAME, then its heartbeat region by ATS.
    first.ask(struct.pack(">BBQIBB", 0x93, 0, 0, 4096, 0, 0), 0, 0, bytes(SECTOR))
    free, mine, theirs = bytes(SECTOR), b"esx1".ljust(SECTOR, b"\1"), b"esx2".ljust(SECTOR, b"\2")
    first.ats(2048, free, mine)
    second.ats(2048, free, theirs, expect=(2, 0xE))  # taken: the other host must look again
    assert second.read(2048, 1) == mine
    for beat in range(1, 30):
        newer = mine[:8] + bytes([beat]) * (SECTOR - 8)
        first.ats(2048, mine, newer)
        mine = newer
    first.ats(2048, mine, free)
    second.ats(2048, free, theirs)
    assert first.read(2048, 1) == theirs
    # A clone of 8 MiB to the other disk: the data does not cross the wire.
    piece, whole = bytes(range(256)) * 1024, 8 * 1024 * 1024
    told, seen = told_bytes(first), wire_bytes(first)
    for i in range(32):
        first.write(i * 512, piece)
    assert told_bytes(first) - told >= whole <= wire_bytes(first) - seen, "what is written is not counted"
    told, seen = told_bytes(first), wire_bytes(first)
    for i in range(2):
        clone(first, names, i * 8192, 8192)
    told, moved = told_bytes(first) - told, wire_bytes(first) - seen
    assert max(told, moved) < whole // 100, "%d bytes crossed the wire, the gateway says %d" % (moved, told)
    for i in (0, 17, 31):
        assert second.read(i * 512, 512, 1) == piece, "the clone differs"
    first.ask([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 0, 1, struct.pack(">HH4xQI4x", 22, 16, 0, 16384))
    assert second.read(0, 512, 1) == bytes(512 * SECTOR)
    print("esxi: scan, 31 heartbeats by ATS, a clone of 8 MiB by %d bytes on the wire, dead space given back" % moved)


def wire_bytes(host):
    """Of the connection, both ways, as this end's kernel counts them (tcpi_bytes_acked, tcpi_bytes_received)."""
    return sum(struct.unpack_from("=QQ", host.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 120))


def told_bytes(host):
    """Payload, as the gateway counts it."""
    status = json.loads(subprocess.run(STATUS, stdout=subprocess.PIPE, check=False).stdout)
    return sum(s["bytes_written"] + s["bytes_read"] for s in status["iscsi_sessions"] if s["initiator"] == host.name)


def clone(host, names, lba, blocks):
    """EXTENDED COPY (LID1), LUN 0 to LUN 1, in one segment."""
    cscds = b"".join(struct.pack(">BBxxBBxB", 0xE4, 0, 1, 3, len(n)) + n.ljust(20, b"\0") + b"\0" + SECTOR.to_bytes(3, "big")
                     for n in names)
    segment = struct.pack(">BBHHHxxHQQ", 2, 0, 24, 0, 1, blocks, lba, lba)
    data = struct.pack(">BBH4xII", 1, 0, len(cscds), len(segment), 0) + cscds + segment
    host.ask(struct.pack(">BB8xIxx", 0x83, 0, len(data)), 0, 0, data)


@profile
def windows_cluster():
    """Validation: SCSI-3 persistent reservations, arbitration, failover, of two nodes."""
    nodes = [Host("iqn.1991-05.com.microsoft:node%d" % n) for n in (1, 2)]
    one, two = nodes
    for node in nodes:
        scan(node)
        serial = node.page(0x80)
        assert len(serial) >= 8 and serial == one.page(0x80)
        node.ask([0x1A, 0, 0x3F, 0, 192, 0], 192)
        node.ask([0x1A, 0, 0x08, 0, 192, 0], 192)
    capabilities = one.ask([0x5E, 2, 0, 0, 0, 0, 0, 0, 8, 0], 8)
    assert capabilities[3] & 0x80 and capabilities[4] & 0x20, "no Write Exclusive - Registrants Only"
    one.reserve_out(6, new=0xA1)  # REGISTER AND IGNORE EXISTING KEY
    two.reserve_out(6, new=0xB2)
    assert sorted(one.keys()) == [0xA1, 0xB2]
    one.reserve_out(1, 5, 0xA1)
    two.reserve_out(1, 5, 0xB2, expect=0x18)  # arbitration is lost
    assert two.holder() == (0xA1, 5)
    two.write(100, b"b" * SECTOR)  # registrants may write
    stranger = Host("iqn.1991-05.com.microsoft:stranger")
    stranger.write(100, b"s" * SECTOR, expect=0x18)
    stranger.read(100, 1)
    stranger.close()
    two.reserve_out(4, 5, 0xB2, 0xA1)  # PREEMPT: the owner is gone
    assert two.holder() == (0xB2, 5) and two.keys() == [0xB2]
    one.write(100, b"a" * SECTOR, expect=0x18)
    one.reserve_out(0, new=0xA3)  # it comes back
    one.reserve_out(5, 5, 0xA3, 0xB2)  # PREEMPT AND ABORT
    assert one.holder() == (0xA3, 5)
    # A node that lost its session keeps its registration (same initiator port).
    one.close()
    one = Host("iqn.1991-05.com.microsoft:node1")
    assert one.holder() == (0xA3, 5)
    one.write(100, b"a" * SECTOR)
    one.reserve_out(3, key=0xA3)  # CLEAR
    assert one.keys() == [] and one.holder() is None
    two.write(100, b"b" * SECTOR)
    assert one.read(100, 1) == b"b" * SECTOR
    print("windows cluster: arbitration, failover, preemption and a lost session of two nodes")


@profile
def xenserver():
    """sr-probe: which LUN has which SCSIid, by page 83 as scsi_id makes it; then LVM's first look."""
    host = Host("iqn.2007-12.com.xenserver:host")
    found = {}
    for lun in scan(host):
        name = naa_of(host, lun)
        serial = host.page(0x80, lun)
        found[lun] = "3" + name.hex()
        assert len(serial) > 0 and len(name) in (8, 16)
    assert len(set(found.values())) == len(found)
    for lun in found:
        host.ask([0x25] + [0] * 9, 8, lun)
        host.ask([0x1A, 8, 8, 0, 255, 0], 255, lun)
        host.read(0, 8, lun)
        host.ask(struct.pack(">BBQIBB", 0x91, 0, 0, 0, 0, 0), 0, lun)
    print("xenserver: " + ", ".join("LUN %d is %s" % item for item in sorted(found.items())))


for run in PROFILES:
    run()

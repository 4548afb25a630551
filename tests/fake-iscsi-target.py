#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An iSCSI target for tests, with one LUN and one fault.

    fake-iscsi-target.py PORT FILE FAULT [COUNT] [ABILITY...]

After COUNT reads and writes FAULT begins, until FILE.good exists:
  garbage, close, hang (not even NOPs are answered), busy, full, short (a read with a residual),
  KEY/ASC/ASCQ in hexadecimal (CHECK CONDITION), KEY/ASC/ASCQ+once (only for one command).
  2a09 is such a unit attention after FILE has doubled.  `redirect` sends every login to another
  port, where the same LUN is served.
Abilities: ws (WRITE SAME), lbpws, unmap (whole granules of 8 blocks only; the rest stays as it is),
  nosync (no SYNCHRONIZE CACHE), lies (says ws and lbpws but rejects WRITE SAME).
"""
import os
import socket
import struct
import sys
import threading

port, path, fault, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int((sys.argv + ["0"])[4])
abilities = set(sys.argv[5:])
BLOCK, GRANULE = 512, 8
commands = 0
once = False


def receive(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def is_good():
    return os.path.exists(path + ".good")


class Session:
    def __init__(self, s):
        self.s, self.stat_sn, self.exp_cmd_sn = s, 1, 1
        self.fd = os.open(path, os.O_RDWR)

    def send(self, head, data=b""):
        self.s.sendall(head + data + bytes(-len(data) % 4))

    def numbers(self):
        self.stat_sn += 1
        return struct.pack(">III", self.stat_sn - 1, self.exp_cmd_sn, self.exp_cmd_sn + 31)

    def login(self, bhs, here):
        stages = bhs[1] & 0x8F
        keys = b"TargetPortalGroupTag=1\0HeaderDigest=None\0DataDigest=None\0InitialR2T=No\0"
        keys += b"ImmediateData=Yes\0FirstBurstLength=262144\0MaxBurstLength=262144\0"
        keys += b"MaxRecvDataSegmentLength=262144\0"
        status = 0
        if fault == "redirect" and here == port:
            status, keys = 0x0101, b"TargetAddress=127.0.0.1:%d\0" % elsewhere.getsockname()[1]
        self.exp_cmd_sn = struct.unpack(">I", bhs[24:28])[0]
        head = struct.pack(">BBBBB", 0x23, stages, 0, 0, 0) + len(keys).to_bytes(3, "big")
        head += bhs[8:14] + b"\0\1" + bhs[16:20] + bytes(4) + self.numbers()
        self.send(head + struct.pack(">H", status) + bytes(10), keys)

    def respond(self, itt, status=0, sense=b"", residual=0):
        data = struct.pack(">H", len(sense)) + sense if sense else b""
        flags = 0x82 if residual else 0x80
        head = struct.pack(">BBBBB", 0x21, flags, 0, status, 0) + len(data).to_bytes(3, "big")
        self.send(head + bytes(8) + itt + bytes(4) + self.numbers() + struct.pack(">III", 0, 0, residual), data)

    def check(self, itt, key, asc, ascq):
        self.respond(itt, 2, bytes([0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0]))

    def data_in(self, itt, data, wanted):
        data = data[:wanted]
        residual = wanted - len(data)
        flags = 0x83 if residual else 0x81
        head = struct.pack(">BBBBB", 0x25, flags, 0, 0, 0) + len(data).to_bytes(3, "big")
        head += bytes(8) + itt + b"\xff" * 4 + self.numbers() + struct.pack(">III", 0, 0, residual)
        self.send(head, data)

    def blocks(self):
        return os.path.getsize(path) // BLOCK

    def inquiry(self, cdb):
        if not cdb[1] & 1:
            return bytes([0, 0, 6, 2, 31, 0, 0, 2]) + b"SLUICE  FAKE            1   "
        if cdb[2] == 0x83:
            return bytes([0, 0x83, 0, 12, 1, 3, 0, 8]) + bytes.fromhex("5001234567890123")
        if cdb[2] == 0xB0:
            page = bytearray(64)
            page[1], page[3] = 0xB0, 60
            page[8:12] = (256).to_bytes(4, "big")
            page[20:24], page[24:28] = (4096).to_bytes(4, "big"), (1).to_bytes(4, "big")
            page[28:32] = GRANULE.to_bytes(4, "big")
            page[36:44] = (1024 if abilities & {"ws", "lies"} else 0).to_bytes(8, "big")
            return bytes(page)
        if cdb[2] == 0xB2:
            bits = 0x04 | (0x80 if "unmap" in abilities else 0) | (0x40 if abilities & {"lbpws", "lies"} else 0)
            return bytes([0, 0xB2, 0, 4, 0, bits, 2, 0])
        return None

    def unmap(self, data):
        for at in range(8, 8 + struct.unpack(">H", data[2:4])[0], 16):
            lba, n = struct.unpack(">QI", data[at : at + 12])
            first, past = -(-lba // GRANULE) * GRANULE, (lba + n) // GRANULE * GRANULE
            if past > first:
                os.pwrite(self.fd, bytes((past - first) * BLOCK), first * BLOCK)

    def execute(self, itt, cdb, edtl, data):
        op, lba, n = cdb[0], struct.unpack(">Q", cdb[2:10])[0], struct.unpack(">I", cdb[10:14])[0]
        if op == 0x00:
            self.respond(itt)
        elif op == 0x12:
            page = self.inquiry(cdb)
            self.data_in(itt, page, edtl) if page else self.check(itt, 5, 0x24, 0)
        elif op == 0x9E and cdb[1] & 31 == 0x10:
            thin = 0xC0 if abilities & {"unmap", "lbpws", "lies"} else 0
            self.data_in(itt, struct.pack(">QIBBB", self.blocks() - 1, BLOCK, 0, 3, thin) + bytes(17), edtl)
        elif op == 0x1A:
            self.data_in(itt, bytes([3, 0, 0x10, 0]), edtl)
        elif op == 0x88:
            self.data_in(itt, os.pread(self.fd, n * BLOCK, lba * BLOCK), edtl)
        elif op == 0x8A:
            os.pwrite(self.fd, data, lba * BLOCK)
            self.respond(itt)
        elif op == 0x91 and "nosync" not in abilities:
            self.respond(itt)
        elif op == 0x93 and "ws" in abilities:
            os.pwrite(self.fd, data * n, lba * BLOCK)
            self.respond(itt)
        elif op == 0x42 and "unmap" in abilities:
            self.unmap(data)
            self.respond(itt)
        else:
            self.check(itt, 5, 0x20, 0)

    def misbehave(self, itt, cdb, edtl, data):
        global once
        if fault == "garbage":
            self.s.sendall(os.urandom(4096))
        elif fault == "close":
            raise EOFError
        elif fault == "hang":
            while not is_good():
                self.s.settimeout(0.02)
                try:
                    receive(self.s, 1)
                except socket.timeout:
                    pass
            raise EOFError
        elif fault == "busy":
            self.respond(itt, 0x08)
        elif fault == "full":
            self.respond(itt, 0x28)
        elif fault == "short" and cdb[0] == 0x88:
            self.data_in(itt, os.pread(self.fd, 512, 0), edtl)
        elif "/" in fault and not once:
            once = fault.endswith("+once")
            key, asc, ascq = (int(x, 16) for x in fault.split("+")[0].split("/"))
            if (asc, ascq) == (0x2A, 9):
                os.truncate(path, 2 * os.path.getsize(path))
            self.check(itt, key, asc, ascq)
        else:
            self.execute(itt, cdb, edtl, data)

    def command(self, bhs, data):
        global commands
        itt, cdb, edtl = bhs[16:20], bhs[32:48], struct.unpack(">I", bhs[20:24])[0]
        self.exp_cmd_sn = struct.unpack(">I", bhs[24:28])[0] + 1
        if cdb[0] in (0x88, 0x8A, 0x91, 0x93, 0x42) and not (cdb[0] == 0x91 and cdb[13] == 1):
            commands += 1
            if commands > count and not is_good():
                return self.misbehave(itt, cdb, edtl, data)
        self.execute(itt, cdb, edtl, data)

    def serve(self, here):
        while True:
            bhs = receive(self.s, 48)
            length = int.from_bytes(bhs[5:8], "big")
            data = receive(self.s, length + -length % 4)[:length]
            op = bhs[0] & 0x3F
            if op == 0x03:
                self.login(bhs, here)
            elif op == 0x01:
                self.command(bhs, data)
            elif op == 0x00 and bhs[16:20] != b"\xff" * 4:
                self.exp_cmd_sn = struct.unpack(">I", bhs[24:28])[0] + 1
                self.send(bytes([0x20, 0x80]) + bytes(14) + bhs[16:20] + b"\xff" * 4 + self.numbers() + bytes(12))


def serve(s, here):
    session = Session(s)
    try:
        session.serve(here)
    except (EOFError, OSError):
        pass
    finally:
        os.close(session.fd)
        s.close()


def listener_at(here):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", here))
    listener.listen(16)
    return listener


def accept_all(listener, here):
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(connection, here), daemon=True).start()


# Whoever finds the first port open finds the second one open too.
if fault == "redirect":
    elsewhere = listener_at(0)
    threading.Thread(target=accept_all, args=(elsewhere, elsewhere.getsockname()[1]), daemon=True).start()
accept_all(listener_at(port), port)

# SPDX-License-Identifier: BSD-3-Clause
"""A small iSCSI initiator that can be told to misbehave: PDUs as bytes, one connection, no recovery."""
import socket
import struct

NO_TAG = 0xFFFFFFFF
NOP_OUT, COMMAND, TASK, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0, 1, 2, 3, 4, 5, 6, 0x10
NOP_IN, RESPONSE, TASK_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN, LOGOUT_RESPONSE = range(0x20, 0x27)
R2T, ASYNC, REJECT = 0x31, 0x32, 0x3F
FINAL, READ, WRITE = 0x80, 0x40, 0x20


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def keys(*pairs):
    return b"".join(p.encode() + b"\0" for p in pairs)


class Closed(Exception):
    pass


class Pdu:
    def __init__(self, head, data):
        self.head, self.data = head, data
        self.opcode = head[0] & 0x3F
        self.flags = head[1]

    def u32(self, at):
        return struct.unpack_from(">I", self.head, at)[0]

    @property
    def status(self):
        return struct.unpack_from(">H", self.head, 36)[0]


class Initiator:
    def __init__(self, port, name="iqn.2001-04.com.example:raw", host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout=20)
        self.name, self.tag, self.cmdsn, self.statsn = name, 1, 1, 0
        self.isid = b"\x80\0\0\0\0\1"
        self.header_digest = self.data_digest = False
        self.first_burst = None

    # --- bytes ---------------------------------------------------------------------------------

    def send(self, head, data=b"", ahs=b"", spoil=None, length=None):
        head = bytearray(head.ljust(48, b"\0"))
        head[4] = len(ahs) // 4
        head[5:8] = struct.pack(">I", len(data) if length is None else length)[1:]
        out = bytes(head) + ahs
        if self.header_digest:
            digest = crc32c(out)
            out += bytes(b ^ (spoil == "header") for b in digest)
        if data:
            padded = data + b"\0" * (-len(data) % 4)
            out += padded
            if self.data_digest:
                out += bytes(b ^ (spoil == "data") for b in crc32c(padded))
        self.sock.sendall(out)

    def take(self, count):
        out = b""
        while len(out) < count:
            try:
                piece = self.sock.recv(count - len(out))
            except ConnectionError:
                raise Closed() from None
            if not piece:
                raise Closed()
            out += piece
        return out

    def receive(self):
        head = self.take(48)
        length = struct.unpack(">I", b"\0" + head[5:8])[0]
        if self.header_digest:
            assert self.take(4) == crc32c(head), "header digest"
        data = self.take(length + (-length % 4))
        if self.data_digest and length:
            assert self.take(4) == crc32c(data), "data digest"
        pdu = Pdu(head, data[:length])
        if pdu.opcode not in (DATA_IN, R2T) or pdu.flags & 1 and pdu.opcode == DATA_IN:
            self.statsn = (pdu.u32(24) + 1) & 0xFFFFFFFF
        return pdu

    def is_closed(self):
        try:
            while True:
                self.receive()
        except Closed:
            return True
        except socket.timeout:
            return False

    def close(self):
        self.sock.close()

    # --- login -----------------------------------------------------------------------------------

    def login_head(self, csg, nsg, flags=FINAL, tsih=0, cid=0, version_min=0):
        return struct.pack(">BBBB4x6sHIHxxII", 0x43, flags | csg << 2 | nsg, version_min, version_min,
                           self.isid, tsih, 7, cid, self.cmdsn, self.statsn)

    def login_pdu(self, csg, nsg, text, **options):
        self.send(self.login_head(csg, nsg, **options), text)
        return self.receive()

    def names(self, target):
        return keys("InitiatorName=" + self.name, "TargetName=" + target, "SessionType=Normal")

    def login(self, target, *more):
        answer = self.login_pdu(1, 3, self.names(target) + keys(*more))
        assert answer.opcode == LOGIN_RESPONSE and answer.status == 0, hex(answer.status)
        assert answer.flags == 0x87, hex(answer.flags)
        self.answers = dict(p.split(b"=", 1) for p in answer.data.split(b"\0") if p)
        self.header_digest = self.answers.get(b"HeaderDigest") == b"CRC32C"
        self.data_digest = self.answers.get(b"DataDigest") == b"CRC32C"
        return self

    # --- full feature phase --------------------------------------------------------------------------

    def next_tag(self):
        self.tag += 1
        return self.tag

    def command_head(self, cdb, flags=FINAL, length=0, tag=None, cmdsn=None, lun=0, immediate=0):
        tag = self.next_tag() if tag is None else tag
        sn = self.cmdsn if cmdsn is None else cmdsn
        if cmdsn is None and not immediate:
            self.cmdsn = (self.cmdsn + 1) & 0xFFFFFFFF
        return struct.pack(">BBxx4xQIIII16s", COMMAND | immediate, flags | 1, lun, tag, length, sn,
                           self.statsn, cdb)

    def command(self, cdb, flags=FINAL, length=0, data=b"", **more):
        """Sends one and returns (status, data, response)."""
        self.send(self.command_head(cdb, flags, length, **more), data)
        return self.result()

    def result(self):
        got = b""
        while True:
            pdu = self.receive()
            if pdu.opcode == DATA_IN:
                assert pdu.u32(40) == len(got), "buffer offset"
                got += pdu.data
                if pdu.flags & 1:
                    return pdu.head[3], got, pdu
            elif pdu.opcode == R2T:
                return None, got, pdu
            elif pdu.opcode == RESPONSE:
                return pdu.head[3], got, pdu
            elif pdu.opcode == NOP_IN and pdu.u32(16) == NO_TAG:
                continue
            else:
                return -pdu.opcode, got, pdu

    def test_unit_ready(self):
        return self.command(bytes(6))[0]

    def settle(self):
        """Takes the unit attention of a new nexus."""
        while self.test_unit_ready() == 2:
            pass
        return self

    def data_out(self, tag, target_tag, sn, offset, data, final=True, **more):
        self.send(struct.pack(">BBxx4xQIIxxxxIxxxxII", DATA_OUT, FINAL if final else 0, 0, tag, target_tag,
                              self.statsn, sn, offset), data, **more)


def read10(lba, blocks):
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write10(lba, blocks):
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)

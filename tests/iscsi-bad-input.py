#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-bad-input PORT TARGET SECRET-TARGET ITS-UUID OPEN-TARGET ITS-UUID [LIMIT...]: what no initiator should send, group
by group.  Each must end in the right reject, status or a closed connection, and leave a second session unharmed.
OPEN-TARGET is like TARGET, SECRET-TARGET wants CHAP.  LIMIT: byte_by_byte (10 s), no_data_at_all (a minute)."""
import os
import random
import struct
import sys
import threading
import time

from iscsi_initiator import *

PORT, TARGET = int(sys.argv[1]), sys.argv[2]
SECRET_TARGET, SECRET_UUID, OPEN_TARGET, OPEN_UUID = sys.argv[3:7]
IN_BACKGROUND = sys.argv[7:]
GROUPS = []


def group(function):
    GROUPS.append(function)
    return function


def new(*more):
    return Initiator(PORT).login(TARGET, *more).settle()


def expect_closed(initiator, what):
    assert initiator.is_closed(), what + ": the connection was not closed"
    initiator.close()


def refused(status, what, csg=1, nsg=3, text=None, target=TARGET, **options):
    i = Initiator(PORT)
    answer = i.login_pdu(csg, nsg, i.names(target) if text is None else text, **options)
    assert answer.status == status, "%s: status %04x" % (what, answer.status)
    assert not answer.data, what + ": keys came with a refusal"
    expect_closed(i, what)


def rejected(i, reason, what):
    pdu = i.receive()
    assert pdu.opcode == REJECT and pdu.head[2] == reason, "%s: %02x %02x" % (what, pdu.opcode, pdu.head[2])


@group
def login_lengths():
    for length in (8193, 0xFFFFFF):
        i = Initiator(PORT)
        i.send(i.login_head(1, 3), length=length)
        expect_closed(i, "a login of %d bytes" % length)
    for length in range(8189, 8193):
        i = Initiator(PORT)
        text = i.names(TARGET) + b"X-fill="
        answer = i.login_pdu(1, 3, text.ljust(length, b"x"))
        assert answer.status == 0x0200 or answer.status == 0, hex(answer.status)
        i.close()


@group
def cut_streams():
    whole = Initiator(PORT)
    text = whole.names(TARGET)
    pdu = whole.login_head(1, 3).ljust(48, b"\0") + text
    pdu = pdu[:5] + struct.pack(">I", len(text))[1:] + pdu[8:]
    whole.close()
    for cut in list(range(0, 60)) + [len(pdu) - 1]:
        i = Initiator(PORT)
        i.sock.sendall(pdu[:cut])
        i.close()


@group
def first_pdus():
    for opcode in (NOP_OUT, COMMAND, TASK, TEXT, DATA_OUT, LOGOUT, SNACK, NOP_IN, 0x3F, 0x1C):
        i = Initiator(PORT)
        i.send(bytes([opcode | 0x40, FINAL]))
        expect_closed(i, "opcode %02x before the login" % opcode)


@group
def login_stages():
    refused(0x0200, "CSG 2", csg=2)
    refused(0x0200, "NSG 2", nsg=2)
    refused(0x0200, "NSG below CSG", nsg=0)
    refused(0x0200, "T and C", flags=FINAL | 0x40)
    refused(0x0205, "version 1", version_min=1)
    refused(0x020A, "a TSIH without session", tsih=0xFFFE)
    refused(0x0203, "no such target", target="iqn.2001-04.com.example:none")
    refused(0x0207, "no names", text=b"")


@group
def login_keys():
    i = Initiator(PORT)
    names = i.names(TARGET)
    i.close()
    bad = (b"NoEquals\0", b"=v\0", b"k" * 64 + b"=v\0", names + b"ImmediateData=No\0ImmediateData=No\0",
           names + keys("MaxRecvDataSegmentLength=511"), names + keys("MaxRecvDataSegmentLength=16777216"),
           names + keys("MaxBurstLength=Irrelevant"), names + b"".join(b"a=b\0" for _ in range(1900)),
           keys("InitiatorName=iqn." + "x" * 220, "TargetName=" + TARGET))
    for text in bad:
        refused(0x0200, repr(text[:40]), text=text)


@group
def no_way_past_chap():
    for csg, nsg, more in ((1, 3, ()), (0, 3, ()), (0, 1, ("AuthMethod=None",)),
                           (0, 1, ("AuthMethod=None,KRB5",)), (0, 1, ("CHAP_N=user", "CHAP_R=0x00"))):
        i = Initiator(PORT)
        answer = i.login_pdu(csg, nsg, i.names(SECRET_TARGET) + keys(*more))
        assert answer.status == 0x0201 and not answer.data, (csg, nsg, more, hex(answer.status))
        expect_closed(i, "past CHAP")


@group
def good_digests():
    i = new("HeaderDigest=CRC32C", "DataDigest=CRC32C", "MaxRecvDataSegmentLength=4096")
    data = os.urandom(8192)
    i.send(i.command_head(write10(16, 16), WRITE | FINAL, 8192), data[:512])
    r2t = i.receive()
    assert r2t.opcode == R2T and r2t.u32(40) == 512 and r2t.u32(44) == 7680, r2t.head.hex()
    i.data_out(i.tag, r2t.u32(20), 0, 512, data[512:1001], False)  # a digest behind padding
    i.data_out(i.tag, r2t.u32(20), 1, 1001, data[1001:])
    assert i.result()[0] == 0
    assert i.command(read10(16, 16), READ | FINAL, 8192)[:2] == (0, data)
    i.close()


@group
def wrong_digests():
    for which in ("header", "data"):
        i = new("HeaderDigest=CRC32C", "DataDigest=CRC32C")
        i.send(i.command_head(write10(0, 1), FINAL | WRITE, 512), bytes(512), spoil=which)
        expect_closed(i, which + " digest")


@group
def additional_headers():
    for ahs in (b"\0\1\0\0", b"\0\1\x3f\0", b"\xff\xff\1\0", b"\0\1\1\0", bytes(1020)):
        i = new()
        i.send(i.command_head(bytes(16)), ahs=ahs)
        expect_closed(i, "AHS " + ahs[:4].hex())
    i = new()
    i.send(i.command_head(b"\x7f".ljust(16, b"\0")), ahs=b"\0\x11\1\0" + bytes(16))
    assert i.result()[0] == 2
    i.send(i.command_head(write10(0, 1), READ | WRITE | FINAL, 512), bytes(512),
           b"\0\5\2\0" + struct.pack(">I", 512))  # the expected length of the other direction
    assert i.result()[0] == 2, "a bidirectional command"
    assert i.test_unit_ready() == 0
    i.close()


@group
def padding():
    for more in ((), ("HeaderDigest=CRC32C", "DataDigest=CRC32C")):
        i = new(*more)
        ping = struct.pack(">BBxx4xQIIII", NOP_OUT | 0x40, FINAL, 0, i.next_tag(), NO_TAG, i.cmdsn, i.statsn)
        i.send(ping, b"abcde" + b"\xa5\x5a\xff", length=5)
        assert i.receive().data == b"abcde", more
        assert i.test_unit_ready() == 0
        i.close()


@group
def opcodes():
    i = new()
    for opcode in list(range(7, 0x10)) + [0x1C, 0x1D, 0x1E] + list(range(0x20, 0x40)):
        i.send(bytes([opcode, FINAL]))
        rejected(i, 5, "opcode %02x" % opcode)
    i.send(bytes([SNACK, FINAL]))
    rejected(i, 3, "SNACK")
    assert i.test_unit_ready() == 0
    i.send(i.login_head(1, 3), i.names(TARGET))
    expect_closed(i, "a login in full feature phase")


@group
def serial_numbers():
    i = new()
    for sn in (i.cmdsn - 1, i.cmdsn - 100, i.cmdsn + 5000):
        i.send(i.command_head(bytes(6), cmdsn=sn & 0xFFFFFFFF))
    assert i.test_unit_ready() == 0  # the others were ignored
    i.send(i.command_head(bytes(6), cmdsn=i.cmdsn + 1))
    expect_closed(i, "a gap in CmdSN")
    i = Initiator(PORT)
    i.cmdsn = 0xFFFFFFFE
    i.login(TARGET).settle()
    for _ in range(4):
        assert i.test_unit_ready() == 0
    i.close()


@group
def immediate_commands():
    """Beside the window there are 64 at most: then the initiator has left the protocol."""
    i = new()
    for n in range(80):
        try:
            i.send(i.command_head(write10(0, 1), WRITE | FINAL, 512, tag=1000 + n, immediate=0x40))
        except ConnectionError:
            break
    kinds = {}
    try:
        for _ in range(80):
            pdu = i.receive()
            kinds[pdu.opcode] = kinds.get(pdu.opcode, 0) + 1
    except (Closed, socket.timeout):
        pass
    assert kinds.get(R2T, 0) <= 64 and kinds.get(REJECT, 0) >= 16, kinds
    i.close()
    i = new()
    i.statsn += 1000  # an ExpStatSN that cannot be
    assert i.test_unit_ready() == 0
    i.close()


@group
def tags():
    i = new()
    i.send(i.command_head(bytes(6), tag=NO_TAG))
    rejected(i, 9, "the reserved tag")
    i.send(i.command_head(write10(0, 8), WRITE | FINAL, 4096, tag=77))
    r2t = i.receive()
    assert r2t.opcode == R2T
    i.send(i.command_head(bytes(6), tag=77))
    rejected(i, 7, "a tag in use")
    i.data_out(77, r2t.u32(20), 0, 0, bytes(4096))
    assert i.result()[0] == 0
    i.close()


def write_with_r2t():
    i = new()
    head = i.command_head(write10(0, 16), WRITE | FINAL, 8192)
    i.send(head)
    r2t = i.receive()
    assert r2t.opcode == R2T and r2t.u32(44) == 8192, r2t.head.hex()
    return i, i.tag, r2t.u32(20)


@group
def data_out():
    for what, sn in ("DataSN 27", 27), ("DataSN -1", NO_TAG):  # a PDU was lost: the command is, nothing else
        i, task, target_tag = write_with_r2t()
        i.data_out(task, target_tag, sn, 0, bytes(8192))
        status, _, pdu = i.result()
        assert status == 2 and pdu.data[4] & 0xF == 0xB and pdu.data[14:16] == b"\x47\x05", (what, pdu.data)
        assert i.test_unit_ready() == 0, what
        i.close()
    i, task, target_tag = write_with_r2t()
    i.data_out(task, target_tag, 0, 0, b"a" * 4096, False)
    i.data_out(task, target_tag, 2, 4096, b"b" * 2048, False)
    i.data_out(task, target_tag, 3, 6144, b"b" * 2048)
    assert i.result()[0] == 2 and i.test_unit_ready() == 0, "a gap in DataSN"
    i.close()
    for what, sn, offset, size, final, tag in (
            ("an offset ahead", 0, 4096, 4096, True, 0), ("past the end", 0, 0, 12288, True, 0),
            ("F too early", 0, 0, 4096, True, 0), ("no F", 0, 0, 8192, False, 0),
            ("a wrong tag", 0, 0, 8192, True, 5), ("unsolicited", 0, 0, 8192, True, None)):
        i, task, target_tag = write_with_r2t()
        i.data_out(task, NO_TAG if tag is None else target_tag + tag, sn, offset, bytes(size), final)
        expect_closed(i, what)
    i, task, target_tag = write_with_r2t()
    i.data_out(task, target_tag, 0, 0, b"a" * 4096, False)
    i.data_out(task, target_tag, 1, 0, b"b" * 4096)
    expect_closed(i, "overlapping data")
    i = new()
    i.data_out(1234, 99, 0, 0, bytes(512))  # of a command that may have been aborted
    assert i.test_unit_ready() == 0
    i.close()


@group
def first_burst():
    i = new("InitialR2T=No", "FirstBurstLength=4096")
    i.send(i.command_head(write10(0, 16), WRITE, 8192), bytes(4608))
    expect_closed(i, "more than FirstBurstLength at once")
    i = new("InitialR2T=No", "FirstBurstLength=4096")
    i.send(i.command_head(write10(0, 16), WRITE, 8192), bytes(2048))
    i.data_out(i.tag, NO_TAG, 0, 2048, bytes(4096))
    expect_closed(i, "more than FirstBurstLength in two")
    i = new("ImmediateData=No")
    i.send(i.command_head(write10(0, 1), WRITE | FINAL, 512), bytes(512))
    expect_closed(i, "immediate data that was not agreed on")
    i = new()
    i.send(i.command_head(write10(0, 1), WRITE, 512), bytes(256))
    expect_closed(i, "unsolicited data that was not agreed on")
    i = new()
    i.send(i.command_head(read10(0, 1), READ | FINAL, 512), bytes(512))
    expect_closed(i, "data for a read")


@group
def expected_lengths():
    i = new()
    for what, cdb, flags, length, wanted, residual in (
            ("a short read", read10(0, 2), READ | FINAL, 512, 0x04, 512),
            ("a long read", read10(0, 1), READ | FINAL, 1024, 0x02, 512),
            ("a read that expects nothing", read10(0, 1), FINAL, 0, 0x04, 512)):
        status, data, pdu = i.command(cdb, flags, length)
        assert status == 0 and pdu.flags & 6 == wanted, (what, status, hex(pdu.flags))
        assert pdu.u32(44) == residual and len(data) <= length, (what, pdu.u32(44), len(data))
    status, _, pdu = i.command(write10(8, 1), WRITE | FINAL, 1024, bytes(1024))
    assert status == 0 and pdu.flags & 6 == 2 and pdu.u32(44) == 512, (status, hex(pdu.flags))
    status, _, pdu = i.command(write10(8, 2), WRITE | FINAL, 512, bytes(512))
    assert pdu.flags & 6 == 4 and pdu.u32(44) == 512, (status, hex(pdu.flags))
    status, data, pdu = i.command(read10(0, 2), READ | FINAL, 700)
    assert status == 0 and pdu.flags & 6 == 4 and pdu.u32(44) == 324 and len(data) == 700, (status, len(data))
    status, _, pdu = i.command(write10(8, 1), FINAL, 0)
    assert status == 0 and pdu.flags & 6 == 4 and pdu.u32(44) == 512, (status, hex(pdu.flags))
    status, _, pdu = i.command(read10(0, 1), READ | WRITE | FINAL, 512)
    assert status == 2, "a bidirectional command"
    i.close()


@group
def text_requests():
    i = new()

    def ask(text, target_tag=NO_TAG, flags=FINAL):
        head = struct.pack(">BBxx4xQIIII", TEXT | 0x40, flags, 0, i.next_tag(), target_tag, i.cmdsn, i.statsn)
        i.send(head, text)
        return i.receive()

    assert TARGET.encode() in ask(keys("SendTargets=")).data
    assert SECRET_TARGET.encode() not in ask(keys("SendTargets=" + SECRET_TARGET)).data
    assert b"SendTargets=Reject" in ask(keys("SendTargets=All")).data
    assert ask(b"", target_tag=4711).opcode == REJECT
    assert ask(b"x" * 100).opcode == REJECT
    assert ask(keys("HeaderDigest=CRC32C")).data == b"HeaderDigest=Reject\0"
    assert ask(keys("Odd=1")).data == b"Odd=NotUnderstood\0"
    piece = ask(b"SendTar", flags=0x40)
    assert piece.opcode == TEXT_RESPONSE and piece.u32(20) != NO_TAG and not piece.data
    assert TARGET.encode() in ask(b"gets=\0", target_tag=piece.u32(20)).data
    for _ in range(200):
        answer = ask(b"y" * 8192, target_tag=piece.u32(20) if answer_has_tag(piece) else NO_TAG, flags=0x40)
        if answer.opcode == REJECT:
            break
        piece = answer
    else:
        raise AssertionError("text without end is gathered without end")
    assert i.test_unit_ready() == 0
    i.close()


@group
def long_lists():
    """All targets in pieces of at most 512 bytes, each asked for by its tag."""
    i = Initiator(PORT)
    i.login_pdu(1, 3, keys("InitiatorName=" + i.name, "SessionType=Discovery", "MaxRecvDataSegmentLength=512"))
    text, tag, pieces, request = b"", NO_TAG, 0, keys("SendTargets=All")
    while True:
        i.send(struct.pack(">BBxx4xQIIII", TEXT | 0x40, FINAL, 0, i.next_tag(), tag, i.cmdsn, i.statsn), request)
        pdu = i.receive()
        assert pdu.opcode == TEXT_RESPONSE and len(pdu.data) <= 512, (hex(pdu.opcode), len(pdu.data))
        text, pieces, tag, request = text + pdu.data, pieces + 1, pdu.u32(20), b""
        if tag == NO_TAG:
            assert pdu.flags == FINAL, hex(pdu.flags)
            break
        assert pdu.flags & 0x80 == 0 or pdu.flags & 0x40 == 0, hex(pdu.flags)
    names = [p for p in text.split(b"\0") if p.startswith(b"TargetName=")]
    assert pieces > 1 and len(names) >= 12 and len(set(names)) == len(names), (pieces, len(names))
    i.close()


@group
def aborted_amid_its_data():
    """ABORT TASK, then a Data-Out of that task of which one half comes after the answer: it goes into nobody's memory."""
    size = 65536
    i, others = new("ImmediateData=No"), []
    i.send(i.command_head(write10(0, size // 512), WRITE | FINAL, size))
    task, target_tag = i.tag, i.receive().u32(20)
    abort = struct.pack(">BBxx4xQIIIIII", TASK | 0x40, FINAL | 1, 0, i.next_tag(), task, i.cmdsn, i.statsn, i.cmdsn, 0)
    data = struct.pack(">BB2xI8xIIxxxxIxxxxII", DATA_OUT, FINAL, size, task, target_tag, i.statsn, 0, 0)
    i.sock.sendall(abort.ljust(48, b"\0") + data.ljust(48, b"\0") + b"A" * 4096)
    answer = i.receive()
    assert answer.opcode == TASK_RESPONSE and answer.head[2] == 0, answer.head.hex()
    for n in range(4):  # more than there are loops
        o = Initiator(PORT, name="iqn.2001-04.com.example:other%d" % n).login(TARGET, "ImmediateData=No").settle()
        o.send(o.command_head(write10(1024 * (n + 1), size // 512), WRITE | FINAL, size))
        others.append((o, o.tag, o.receive().u32(20), 1024 * (n + 1)))
    for o, tag, target_tag, _ in others:
        o.data_out(tag, target_tag, 0, 0, b"B" * (size - 512), False)
        o.send(struct.pack(">BBxx4xQIIII", NOP_OUT | 0x40, FINAL, 0, o.next_tag(), NO_TAG, o.cmdsn, o.statsn))
        assert o.receive().opcode == NOP_IN  # so the data has been taken
    i.sock.sendall(b"A" * (size - 4096))
    assert i.test_unit_ready() == 0
    for o, tag, target_tag, lba in others:
        o.data_out(tag, target_tag, 1, size - 512, b"B" * 512)
        assert o.result()[0] == 0
        status, got, _ = o.command(read10(lba, size // 512), READ | FINAL, size)
        assert status == 0 and got == b"B" * size, "%d bytes of an aborted write in another's" % got.count(b"A")
        o.close()
    i.close()


@group
def long_reads():
    """More of them than there is memory for: they wait until the answers before them have left, and can be aborted."""
    size, count = 1 << 20, 100
    i = new("MaxRecvDataSegmentLength=262144")
    pattern = b"".join(struct.pack(">I", n) * 128 for n in range(2048))
    for lba in range(0, 2048, 16):
        assert i.command(write10(lba, 16), WRITE | FINAL, 8192, pattern[lba * 512:][:8192])[0] == 0

    def ask():
        heads = [i.command_head(read10(0, 2048), READ | FINAL, size) for _ in range(count)]
        i.sock.sendall(b"".join(h.ljust(48, b"\0") for h in heads))
        return list(range(i.tag - count + 1, i.tag + 1))

    def manage(function, tag=NO_TAG):
        i.send(struct.pack(">BBxx4xQIIIIII", TASK | 0x40, FINAL | function, 0, i.next_tag(), tag, i.cmdsn, i.statsn,
                           i.cmdsn, 0))

    def take(tags, aborted=()):
        """Until these have been answered; in which order.  What was aborted is not, and its tag is free at once."""
        got, order, functions = {tag: bytearray() for tag in tags}, [], 0
        while len(order) < len(tags):
            pdu = i.receive()
            if pdu.opcode == TASK_RESPONSE:
                assert pdu.head[2] == 0, pdu.head.hex()
                i.send(i.command_head(bytes(6), tag=aborted[functions]))
                functions += 1
                continue
            if pdu.u32(16) in aborted:
                assert pdu.opcode == RESPONSE and pdu.head[3] == 0, "%02x" % pdu.opcode
                continue
            assert pdu.opcode == DATA_IN, "%02x, status %02x" % (pdu.opcode, pdu.head[3])
            got[pdu.u32(16)] += pdu.data
            if pdu.flags & 1:
                assert pdu.head[3] == 0 and pattern.startswith(got[pdu.u32(16)]), "wrong data"
                order.append(pdu.u32(16))
        assert functions == len(aborted)
        return order

    take(ask())
    tags = ask()
    for tag in tags[80:]:
        manage(1, tag)
    take(tags[:80], tags[80:])
    tags = ask()
    i.send(i.command_head(read10(0, 1), READ | FINAL | 2, 512))  # HEAD OF QUEUE
    assert take(tags + [i.tag]).index(i.tag) < 50, "it has waited for those before it"
    ask()
    manage(2)  # ABORT TASK SET
    while i.receive().opcode != TASK_RESPONSE:
        pass
    take(ask())
    i.send(struct.pack(">BBxx4x8xIHxxII", LOGOUT | 0x40, FINAL, i.next_tag(), 0, i.cmdsn, i.statsn))
    ask()
    i.close()


@group
def long_writes():
    """More of them than there is memory for: those past 64 MiB are told BUSY, until one before them has ended."""
    size, count, most = 1 << 20, 100, 64
    i = new()
    for _ in range(count):
        i.send(i.command_head(write10(0, 2048), WRITE | FINAL, size))
    answers = [i.receive() for _ in range(count)]
    asked = [pdu for pdu in answers if pdu.opcode == R2T]
    busy = [pdu for pdu in answers if pdu.opcode == RESPONSE]
    assert len(asked) == most and len(busy) == count - most, "%d were accepted" % len(asked)
    assert all(pdu.head[3] == 8 for pdu in busy), "not BUSY"
    pdu = asked[0]
    while pdu.opcode == R2T:
        length = pdu.u32(44)
        for sn, at in enumerate(range(0, length, 65536)):
            some = min(65536, length - at)
            i.data_out(pdu.u32(16), pdu.u32(20), sn, pdu.u32(40) + at, bytes(some), at + some == length)
        pdu = i.receive()
    assert pdu.opcode == RESPONSE and pdu.head[3] == 0, pdu.head.hex()
    assert i.command(write10(0, 2048), WRITE | FINAL, size)[0] is None, "there was room again"
    i.close()


class Gathered:
    """In the place of a socket: what is sent stays here."""

    def __init__(self):
        self.sent = b""

    def sendall(self, data):
        self.sent += data


@group
def mixed_lengths():
    """Long and short data in one stream that is cut anywhere, some of it refused: each byte of the rest finds its place."""
    choose = random.Random(1)
    for more, count, most in (((), 50, 512), (("HeaderDigest=CRC32C", "DataDigest=CRC32C"), 6, 96)):
        i = new("FirstBurstLength=262144", *more)
        sock, i.sock = i.sock, Gathered()
        written, wanted = b"", {}
        for n in range(count):
            data = os.urandom(512 * choose.choice((1, choose.randint(1, most), most)))
            i.send(i.command_head(write10(len(written) // 512, len(data) // 512), WRITE | FINAL, len(data)), data)
            wanted[i.tag], written = 0, written + data
            if n % 3 == 0:
                i.send(i.command_head(bytes(6)))
                wanted[i.tag] = 0
            if n % 5 == 0:  # past the end of the disk
                i.send(i.command_head(write10(1 << 20, most), WRITE | FINAL, 512 * most), os.urandom(512 * most))
                wanted[i.tag] = 2
        stream, i.sock, at = i.sock.sent, sock, 0
        while at < len(stream):
            piece = choose.choice((choose.randint(1, 100), choose.randint(1, 9000), choose.randint(1, 400000)))
            sock.sendall(stream[at : at + piece])
            at += piece
        answers = [i.receive() for _ in wanted]
        assert {pdu.u32(16): pdu.head[3] for pdu in answers} == wanted, more
        for lba in range(0, len(written) // 512, 2048):
            part = written[512 * lba : 512 * (lba + 2048)]
            assert i.command(read10(lba, len(part) // 512), READ | FINAL, len(part))[:2] == (0, part), (more, lba)
        i.close()


def answer_has_tag(pdu):
    return pdu.opcode == TEXT_RESPONSE and pdu.u32(20) != NO_TAG


@group
def task_management():
    i = new()

    def manage(function, tag=0, lun=0):
        i.send(struct.pack(">BBxx4xQIIIIII", TASK | 0x40, FINAL | function, lun, i.next_tag(), tag, i.cmdsn,
                           i.statsn, i.cmdsn, 0))
        pdu = i.receive()
        assert pdu.opcode == TASK_RESPONSE, hex(pdu.opcode)
        return pdu.head[2]

    assert manage(1, 4711) == 1
    assert manage(2, lun=5 << 48) == 2
    assert manage(8) in (4, 5)
    assert manage(0x55) == 5
    assert manage(1, 4711, lun=1 << 48) == 1
    i.send(struct.pack(">BBxx4xQIIIIII", TASK | 0x40, FINAL | 1, 0, i.next_tag(), 4711, i.cmdsn, i.statsn,
                       i.cmdsn + 5000, 0))
    assert i.receive().head[2] == 1, "a RefCmdSN outside of the window"
    i.send(i.command_head(write10(0, 16), WRITE | FINAL, 8192))
    task = i.tag
    target_tag = i.receive().u32(20)
    assert manage(1, task) == 0
    i.data_out(task, target_tag, 0, 0, bytes(8192))  # too late: ignored
    for _ in range(100):
        assert manage(2) == 0
    i.settle()
    i.close()


@group
def logouts():
    def logout(i, reason, cid=0):
        i.send(struct.pack(">BBxx4x8xIHxxII", LOGOUT | 0x40, FINAL | reason, i.next_tag(), cid, i.cmdsn, i.statsn))
        return i.receive()

    i = new()
    assert logout(i, 1, 99).head[2] == 1
    assert logout(i, 2).head[2] == 2
    assert logout(i, 77).opcode == REJECT
    i.send(i.command_head(write10(0, 16), WRITE | FINAL, 8192))  # still waits for its data
    assert i.receive().opcode == R2T
    answer = logout(i, 0)
    assert answer.opcode == LOGOUT_RESPONSE and answer.head[2] == 0
    expect_closed(i, "after a logout")


@group
def pings():
    i = new()
    data = os.urandom(1 << 20)
    i.send(struct.pack(">BBxx4xQIIII", NOP_OUT | 0x40, FINAL, 0, i.next_tag(), NO_TAG, i.cmdsn, i.statsn), data)
    pdu = i.receive()
    assert pdu.opcode == NOP_IN and pdu.data == data[:8192], len(pdu.data)
    i.send(struct.pack(">BBxx4xQIIII", NOP_OUT | 0x40, FINAL, 0, NO_TAG, 4711, i.cmdsn, i.statsn))
    assert i.test_unit_ready() == 0
    i.send(bytes([NOP_OUT | 0x40, FINAL]), length=(1 << 20) + 1)
    expect_closed(i, "a longer segment than declared")


@group
def reinstatement():
    first = new()
    second = new()
    expect_closed(first, "the old session of a port that logged in anew")
    assert second.test_unit_ready() == 0
    second.close()


@group
def a_race_of_one_port():
    """Twenty logins of one initiator port at once: one of them has the session in the end."""
    racers, threads = [], []

    def race():
        try:
            racers.append(Initiator(PORT, name="iqn.2001-04.com.example:race").login(TARGET))
        except (Closed, ConnectionError):
            pass

    for _ in range(20):
        threads.append(threading.Thread(target=race))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert racers, "nobody was let in"
    alive = 0
    for i in racers:
        try:
            alive += i.settle().test_unit_ready() == 0
        except (Closed, ConnectionError):
            pass
    assert alive == 1, "%d sessions of one port" % alive
    for i in racers:
        i.close()
    zero = Initiator(PORT)
    zero.isid = bytes(6)
    zero.login(TARGET).settle().close()


def naa_of(i):
    status, page, _ = i.command(bytes([0x12, 1, 0x83, 0, 255, 0]), READ | FINAL, 255)
    assert status == 0 and page[5] & 0x3F == 3, page.hex()
    return page[8:8 + page[7]]


def naa_from(uuid):
    u = bytes.fromhex(uuid.replace("-", ""))
    name = bytes(a ^ b for a, b in zip(u[:8], u[8:]))
    return bytes([0x30 | name[0] & 0x0F]) + name[1:]


def copy_to(i, naa):
    """EXTENDED COPY of a block from the session's own disk to that one: (status, sense key, ASC)"""
    cscds = b"".join(struct.pack(">BBxxBBxB", 0xE4, 0, 1, 3, len(n)) + n.ljust(20, b"\0") + b"\0\0\2\0" for n in (naa_of(i), naa))
    segment = struct.pack(">BBHHHxxHQQ", 2, 0, 24, 0, 1, 1, 0, 0)
    data = struct.pack(">BBH4xII", 1, 0, len(cscds), len(segment), 0) + cscds + segment
    i.send(i.command_head(struct.pack(">BB8xIxx", 0x83, 0, len(data)), WRITE | FINAL, len(data)), data)
    status, _, pdu = i.result()
    return (status, 0, 0) if status != 2 else (2, pdu.data[4] & 0xF, struct.unpack(">H", pdu.data[14:16])[0])


@group
def disks_of_others():
    """A copy may name a disk of another target, but not one that wants a secret of its own."""
    i, there = new(), Initiator(PORT, name="iqn.2001-04.com.example:there").login(OPEN_TARGET).settle()
    block = os.urandom(512)
    assert i.command(write10(0, 1), WRITE | FINAL, 512, block)[0] == 0
    assert naa_of(there) == naa_from(OPEN_UUID)
    assert copy_to(i, naa_from(OPEN_UUID)) == (0, 0, 0)
    assert there.command(read10(0, 1), READ | FINAL, 512)[1] == block
    assert copy_to(i, naa_from(SECRET_UUID)) == (2, 0xA, 0x0804)
    assert copy_to(i, bytes(8)) == (2, 0xA, 0x0804)
    i.close()
    there.close()


@group
def strangers():
    crowd = []
    for _ in range(200):
        crowd.append(socket.create_connection(("127.0.0.1", PORT), timeout=20))
    for s in crowd[100:]:
        try:
            assert s.recv(1) == b"", "a stranger too many was let in"
        except ConnectionError:
            pass
    for s in crowd:
        s.close()


def byte_by_byte():
    """A login that never ends, a byte at a time, is ended by its limit of 10 s, whatever it sends."""
    i = Initiator(PORT)
    i.sock.settimeout(0.25)
    began = time.monotonic()
    for byte in i.login_head(1, 3).ljust(48, b"\0") * 10:
        try:
            i.sock.sendall(bytes([byte]))
            if i.sock.recv(1) == b"":
                break
        except socket.timeout:
            continue
        except ConnectionError:
            break
    else:
        raise AssertionError("a login of one byte every quarter of a second was not ended")
    assert time.monotonic() - began > 5, "it was ended too soon"
    i.close()


def no_data_at_all():
    """A write whose data never comes ends with CHECK CONDITION after a minute, its session goes on."""
    i = Initiator(PORT, name="iqn.2001-04.com.example:silent").login(TARGET).settle()
    i.send(i.command_head(write10(0, 16), WRITE | FINAL, 8192))
    assert i.receive().opcode == R2T
    for _ in range(240):
        i.sock.settimeout(1)
        try:
            status, _, pdu = i.result()
            assert status == 2 and pdu.data[4] & 0xF == 0xB and pdu.data[14:16] == b"\x4b\x06", pdu.data
            break
        except socket.timeout:
            i.sock.settimeout(20)
            i.send(struct.pack(">BBxx4xQIIII", NOP_OUT | 0x40, FINAL, 0, NO_TAG, 4711, i.cmdsn, i.statsn))
    else:
        raise AssertionError("it waits for ever")
    assert i.test_unit_ready() == 0
    i.close()


class InBackground(threading.Thread):
    """Waits for a limit of the gateway while the other groups run."""

    def __init__(self, function):
        super().__init__()
        self.function, self.error = function, None
        self.start()

    def run(self):
        try:
            self.function()
        except Exception as error:
            self.error = error


def main():
    waiting = [InBackground(f) for f in (byte_by_byte, no_data_at_all) if f.__name__ in IN_BACKGROUND]
    witness = Initiator(PORT, name="iqn.2001-04.com.example:witness").login(TARGET).settle()
    failed = 0
    for function in GROUPS:
        try:
            function()
            assert witness.test_unit_ready() == 0, "the other session was harmed"
            print("ok", function.__name__, flush=True)
        except Exception as error:  # each group is told by itself
            failed += 1
            print("FAILED", function.__name__, type(error).__name__, error, flush=True)
    for thread in waiting:
        thread.join()
        failed += thread.error is not None
        print("FAILED" if thread.error else "ok", thread.function.__name__, thread.error or "", flush=True)
    return failed != 0


sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD server for tests that does one thing wrong.

    fake-nbd-server.py SOCKET FILE FAULT [COUNT]

Serves FILE (its size is read anew for each connection) with simple replies until COUNT requests were
answered, then FAULT: garbage, truncated (half a reply, then closes), close, hang, shutdown
(ESHUTDOWN for each request), eio, short (a structured reply that leaves data out).  `mute` says
nothing at all to whoever connects.  `late` cuts the connection after the next write, is well from then
on, and carries that write out when FILE.land exists; FILE.landed says that it has.  The faults last until
FILE.good exists.
"""
import os
import socket
import struct
import sys
import threading
import time

path, file, fault, count = sys.argv[1], sys.argv[2], sys.argv[3], int((sys.argv + ["0"])[4])
served = 0

OPT_GO, OPT_INFO, OPT_STRUCTURED = 7, 6, 8
REP_ACK, REP_INFO, REP_ERR_UNSUP = 1, 3, 0x80000001
FLAGS = 1 | 4 | 8 | 64  # HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_WRITE_ZEROES


def receive(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def reply(s, option, kind, data=b""):
    s.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)


def negotiate(s):
    """True: structured replies were agreed on."""
    structured = False
    s.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
    receive(s, 4)
    while True:
        _, option, length = struct.unpack(">QII", receive(s, 16))
        receive(s, length)
        if option in (OPT_GO, OPT_INFO):
            info = struct.pack(">HQH", 0, os.path.getsize(file), FLAGS)
            reply(s, option, REP_INFO, info)
            reply(s, option, REP_ACK)
            if option == OPT_GO:
                return structured
        elif option == OPT_STRUCTURED and fault == "short":
            structured = True
            reply(s, option, REP_ACK)
        else:
            reply(s, option, REP_ERR_UNSUP)


def land(data, offset):
    while not os.path.exists(file + ".land"):
        time.sleep(0.01)
    fd = os.open(file, os.O_WRONLY)
    os.pwrite(fd, data, offset)
    os.close(fd)
    open(file + ".landed", "w").close()


def cut(data, offset):
    threading.Thread(target=land, args=(data, offset), daemon=True).start()
    open(file + ".good", "w").close()
    raise EOFError


def misbehave(s, cookie, kind):
    if fault == "garbage":
        s.sendall(os.urandom(4096))
    elif fault == "truncated":
        s.sendall(struct.pack(">II", 0x67446698, 0))
        raise EOFError
    elif fault == "close":
        raise EOFError
    elif fault == "shutdown":
        s.sendall(struct.pack(">IIQ", 0x67446698, 108, cookie))
    elif fault == "eio":
        s.sendall(struct.pack(">IIQ", 0x67446698, 5, cookie))
    elif fault == "short" and kind == 0:
        s.sendall(struct.pack(">IHHQI", 0x668E33EF, 1, 0, cookie, 0))
    else:
        while not os.path.exists(file + ".good"):
            s.settimeout(0.02)
            try:
                if not s.recv(65536):
                    raise EOFError
            except socket.timeout:
                pass


def answer(s, kind, cookie, offset, length, fd, structured):
    data = b""
    if kind == 0:
        data = os.pread(fd, length, offset)
    elif kind == 1:
        os.pwrite(fd, receive(s, length), offset)
    elif kind == 6:
        os.pwrite(fd, bytes(length), offset)
    if structured and kind == 0:
        head = struct.pack(">IHHQIQ", 0x668E33EF, 1, 1, cookie, 8 + length, offset)
    elif structured:
        head = struct.pack(">IHHQI", 0x668E33EF, 1, 0, cookie, 0)
    else:
        head = struct.pack(">IIQ", 0x67446698, 0, cookie)
    s.sendall(head + data)


def serve(s):
    global served
    fd = os.open(file, os.O_RDWR)
    try:
        while fault == "mute" and not os.path.exists(file + ".good"):
            s.settimeout(0.02)
            try:
                receive(s, 1)
            except socket.timeout:
                pass
        s.settimeout(None)
        structured = negotiate(s)
        while True:
            _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", receive(s, 28))
            served += 1
            if served > count and not os.path.exists(file + ".good"):
                data = receive(s, length) if kind == 1 else b""
                if fault == "late" and kind == 1:
                    cut(data, offset)
                misbehave(s, cookie, kind)
            else:
                answer(s, kind, cookie, offset, length, fd, structured)
    except (EOFError, OSError):
        pass
    finally:
        os.close(fd)
        s.close()


if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(16)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()

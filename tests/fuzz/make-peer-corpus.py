#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the corpus of fuzz-peer-frames into a folder: one good input of each kind, and some that are nearly so.

The checksums may be wrong: the harness mends those of a first frame.
"""
import os
import struct
import sys

HELLO, WELCOME, REFUSE, PING, PONG, BYE, ASK, ANSWER, OPEN, CLOSE, MESSAGE, WINDOW, SWITCH = range(1, 14)
GREETING, CONTROL, STREAM = 0, 1, 2


def frame(kind, channel=0, payload=b"", length=None):
    return struct.pack(">IBBHII", len(payload) if length is None else length, kind, 0, 1, channel, 0) + payload


def hello(source=b"gw-a", target=b"gw-b", number=0, streams=1, flags=0):
    head = b"SluicePeer" + struct.pack(">HHBBB3xI", 1, 1, number, streams, flags, 8 << 20)
    return head + bytes(range(16)) + bytes(16) + bytes([len(source), len(target)]) + bytes(10) + source + target


inputs = {
    "hello": (GREETING, frame(HELLO, 0, hello())),
    "welcome": (GREETING, frame(WELCOME, 0, hello(b"gw-b", b"gw-a", 1, 4, 1))),
    "long-names": (GREETING, frame(HELLO, 0, hello(b"a" * 63, b"b" * 63))),
    "too-long-names": (GREETING, frame(HELLO, 0, hello(b"a" * 64, b"b" * 64))),
    "no-streams": (GREETING, frame(HELLO, 0, hello(streams=0))),
    "names-overrun": (GREETING, frame(HELLO, 0, hello()[:-1])),
    "refuse": (GREETING, frame(REFUSE, 3, b"no\nway")),
    "ping": (CONTROL, frame(PING, 0, bytes(8)) + frame(PONG, 0, bytes(8))),
    "bye": (CONTROL, frame(BYE, 0, b"the gateway stops")),
    "ask": (CONTROL, frame(ASK, 7, b"{}")),
    "answer": (CONTROL, frame(ANSWER, 7)),
    "open": (STREAM, frame(OPEN, 65536, struct.pack(">I", 8 << 20) + b"replication/disk:vm17")),
    "open-small-window": (STREAM, frame(OPEN, 1, struct.pack(">I", 1) + b"k")),
    "close": (STREAM, frame(CLOSE, 65536) + frame(SWITCH)),
    "message": (STREAM, frame(MESSAGE, 65536, b"x" * 100)),
    "window": (STREAM, frame(WINDOW, 65536, bytes(4))),
    "half": (STREAM, frame(MESSAGE, 1, b"x" * 10, 100)),
    "endless": (STREAM, frame(MESSAGE, 1, b"", 0xFFFFFFFF)),
    "unknown": (STREAM, frame(99)),
    "misplaced": (STREAM, frame(HELLO, 0, hello())),
}
for name, (place, data) in inputs.items():
    with open(os.path.join(sys.argv[1], name), "wb") as out:
        out.write(bytes([place]) + data)

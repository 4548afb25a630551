#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# control-garbage.py SOCKET: what a control socket must live through: garbage, half a line, a line without
# end, far too many clients, one that never reads.  After each, a client that behaves gets its answer.
import json
import os
import random
import socket
import sys

path = sys.argv[1]
LINE_MAX = 65536


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    return s


def read_line(s):
    data = b""
    while not data.endswith(b"\n"):
        piece = s.recv(65536)
        if not piece:
            return data
        data += piece
    return data


def ask(line):
    with connect() as s:
        s.sendall(line + b"\n")
        answer = read_line(s)
    return json.loads(answer) if answer else None


def check_alive(after):
    answer = ask(b'{"verb": "status"}')
    assert answer and answer["ok"] is True and len(answer["status"]["disks"]) == 1, after


def refused(line, exit_code=3):
    answer = ask(line)
    assert answer["ok"] is False and answer["exit"] == exit_code and answer["error"], (line, answer)


# Lines that are no request: refused as wrong usage, with a sentence.
for line in [b"", b"garbage", b"[]", b"1", b"null", b'"status"', b"{}", b'{"verb": 1}', b'{"verb": null}',
             b'{"verb": "no-such"}', b'{"verb": "status"', b'{"verb": "status", "verb": "status"}',
             b'{"verb": "st\xff"}', b"\x00\x01\x02", b"[" * 3000, b'{"a":' * 3000, b'{"verb": "\\ud800"}']:
    refused(line)
# Requests with wrong values: an error each, never an action.
for line in [b'{"verb": "disk-resize", "disk": "a"}', b'{"verb": "disk-resize", "disk": "a", "size_bytes": -1}',
             b'{"verb": "disk-resize", "disk": "a", "size_bytes": "1GiB"}',
             b'{"verb": "disk-resize", "disk": "a", "size_bytes": 1e30}',
             b'{"verb": "disk-snapshot", "disk": "a", "name": "../x"}', b'{"verb": "tasks", "disk": "nosuch"}']:
    refused(line, 1)
for line in [b'{"verb": "tasks"}', b'{"verb": "tasks", "disk": 7}', b'{"verb": "disk-event", "disk": "a"}',
             b'{"verb": "disk-event", "disk": "a", "event": "resize"}',
             b'{"verb": "filter", "filter": 1, "disk": "a"}', b'{"verb": "disk-snapshot", "disk": "a"}']:
    refused(line)
check_alive("lines that are no request")

# Half a line, then gone; bytes of chance; several requests in one write.
for cut in range(1, 18):
    with connect() as s:
        s.sendall(b'{"verb": "status"}'[:cut])
check_alive("half lines")
chance = random.Random(1)
for _ in range(50):
    with connect() as s:
        s.sendall(chance.randbytes(chance.randrange(1, 4000)))
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
check_alive("bytes of chance")
with connect() as s:
    s.sendall(b'{"verb": "nope"}\n' * 20 + b'{"verb": "status"}\n')
    with s.makefile("rb") as f:
        answers = [json.loads(f.readline()) for _ in range(21)]
assert [a["ok"] for a in answers] == [False] * 20 + [True], "requests in one write"

# A line of 1 MiB: the connection is closed when the limit is reached; one just below it is answered.
with connect() as s:
    try:
        s.sendall(b"x" * (1 << 20))
        assert read_line(s) == b"", "a line of 1 MiB was answered"
    except (BrokenPipeError, ConnectionResetError):
        pass
check_alive("a line of 1 MiB")
answer = ask(b'{"verb": "status", "pad": "' + b"x" * (LINE_MAX - 100) + b'"}')
assert answer["ok"] is True, "a long line within the limit"

# Many clients that say nothing: the others are told so at once, and let in when some have gone.
idle = [connect() for _ in range(64)]
answer = None
with connect() as s:
    answer = json.loads(read_line(s))
assert answer["ok"] is False and "too many clients" in answer["error"], answer
for s in idle:
    s.close()
for attempt in range(1000000):
    answer = ask(b'{"verb": "status"}')
    if answer and answer["ok"]:
        break
check_alive("many clients")

# One that asks and asks and never reads; others are answered meanwhile.
slow = connect()
slow.setblocking(False)
sent = 0
try:
    while sent < 64 << 20:
        sent += slow.send(b'{"verb": "metrics"}\n' * 100)
except BlockingIOError:
    pass
check_alive("a client that does not read")
slow.close()
watcher = connect()
watcher.sendall(b'{"verb": "watch"}\n')
check_alive("a watcher that does not read")
watcher.close()
print(f"lived through it all; {sent} bytes were sent by the client that does not read")

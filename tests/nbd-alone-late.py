#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""One NBD request at a time that waits: nbd-alone-late.py SOCKET EXPORT DIRECT_EXPORT CACHED_EXPORT WRITES_LATE_EXPORT PID

Each request to EXPORT is answered late by something in the gateway, process PID, those to DIRECT_EXPORT by the device, and
each write to CACHED_EXPORT is followed by a flush: the thread that has read the request is to wait for it, and to wake no other.  Writes to WRITES_LATE_EXPORT take 500 ms, reads nothing: a read that comes
while the sixth write in a row is waited for is answered before it, and so is a client's leaving.
"""
import array
import fcntl
import sys
import termios
import time

import nbd_client as nbd

BLOCK = 4096
TURNS = 300


def send(client, kind, cookie, offset):
    client.sendall(nbd.request(kind, cookie, offset, BLOCK, bytes([cookie % 251]) * BLOCK if kind == nbd.CMD_WRITE else b""))


def receive(client, reads):
    """The cookie that was answered, and the data."""
    cookie, error, data = nbd.receive_answer(client, reads)
    if error:
        sys.exit(f"request {cookie}: error {error}")
    return cookie, data


def until_read(client):
    """By the gateway: all that was sent."""
    unread = array.array("i", [1])
    while unread[0]:
        fcntl.ioctl(client, termios.TIOCOUTQ, unread)
        time.sleep(0.001)


def alone(client, turns, flushes=False):
    """A write, a flush, and what was written."""
    for cookie in range(turns):
        send(client, nbd.CMD_WRITE, cookie, cookie * BLOCK)
        if receive(client, {}) != (cookie, b""):
            sys.exit("an answer to another question")
        if flushes:
            client.sendall(nbd.request(nbd.CMD_FLUSH, cookie, 0, 0))
            if receive(client, {}) != (cookie, b""):
                sys.exit("an answer to another question")
        send(client, nbd.CMD_READ, cookie, cookie * BLOCK)
        if receive(client, {cookie: BLOCK}) != (cookie, bytes([cookie % 251]) * BLOCK):
            sys.exit(f"block {cookie} was read wrong")


def count_sleeps(where, export, pid, most, flushes=False):
    client = nbd.attach(where, export, True)
    alone(client, 20, flushes)
    before = nbd.sleeps(pid)
    alone(client, TURNS, flushes)
    sleeps = nbd.count_sleeps(pid, before) / ((3 if flushes else 2) * TURNS)
    print(f"{export}: {sleeps:.2f} sleeps a request")
    client.close()
    if sleeps > most:
        sys.exit(f"another thread was woken to read: {sleeps:.2f} sleeps a request to {export}, {most} at most")


def come_between(where, export):
    client = nbd.attach(where, export, True)
    alone(client, 5)
    send(client, nbd.CMD_WRITE, 100, 0)
    until_read(client)
    send(client, nbd.CMD_READ, 200, BLOCK)
    first, data = receive(client, {200: BLOCK})
    if first != 200 or data != bytes([1]) * BLOCK:
        sys.exit("a read waited for a write that is held")
    if receive(client, {})[0] != 100:
        sys.exit("the write was not answered")
    alone(client, 5)
    send(client, nbd.CMD_WRITE, 100, 0)
    until_read(client)
    client.close()  # and the gateway ends as ever


def main(where, late, direct, cached, writes_late, pid):
    count_sleeps(where, late, pid, 4.6)  # 5.3 with another thread woken; the timer of the delay has one that sleeps too
    count_sleeps(where, direct, pid, 2.9)  # 3.6 with another
    count_sleeps(where, cached, pid, 2.4, True)  # 3.0
    come_between(where, writes_late)


main(*sys.argv[1:])

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""One NBD request at a time: nbd-alone.py SOCKET EXPORT READ_ONLY_EXPORT SIZE PID SEED

Reads, writes and flushes EXPORT at random and holds every answer against what was written before, with simple and with
structured replies; the gateway, process PID, is to do that in the thread that reads, not to hand requests from thread
to thread.  Between them come requests that have to be refused, on READ_ONLY_EXPORT as well: the next good one
is answered as ever.
"""
import random
import sys

import nbd_client as nbd

EPERM, EINVAL, ENOSPC = 1, 22, 28
FLAG_FUA = 1
BLOCK = 4096
TURNS = 2000


def ask(client, kind, offset, length, data=b"", flags=0):
    """(error, data)"""
    cookie = random.getrandbits(64)
    client.sendall(nbd.request(kind, cookie, offset, length, data, flags))
    answered, error, got = nbd.receive_answer(client, {cookie: length} if kind == nbd.CMD_READ else {})
    if answered != cookie:
        sys.exit("an answer to another question")
    return error, got


def must(client, what, *question, flags=0):
    answer = ask(client, *question, flags=flags)
    if answer != what:
        sys.exit(f"{question[:3]}, flags {flags}: error {answer[0]}, {len(answer[1])} bytes; wanted {what[0]}")


def must_refuse(client, error, *question, flags=0):
    got = ask(client, *question, flags=flags)[0]
    if got != error:
        sys.exit(f"{question[:3]}, flags {flags}: error {got}, wanted {error}")


def read_and_write(client, disk, turns, lengths=(512, BLOCK, 16384, 65536), flushes=0.05):
    for _ in range(turns):
        length = random.choice(lengths)
        offset = random.randrange(0, (len(disk) - length) // 512) * 512
        if random.random() < flushes:
            must(client, (0, b""), nbd.CMD_FLUSH, 0, 0)
        if random.random() < 0.5:
            must(client, (0, bytes(disk[offset:offset + length])), nbd.CMD_READ, offset, length)
            continue
        length = min(length, 16384)
        data = random.randbytes(length)
        must(client, (0, b""), nbd.CMD_WRITE, offset, length, data)
        disk[offset:offset + length] = data


def be_refused(client, disk):
    size = len(disk)
    must_refuse(client, EINVAL, nbd.CMD_READ, size - 512, 1024)
    must_refuse(client, EINVAL, nbd.CMD_READ, 1 << 63, 512)
    must_refuse(client, ENOSPC, nbd.CMD_WRITE, size, 512, bytes(512))
    must_refuse(client, EINVAL, nbd.CMD_READ, 0, 512, flags=0x8000)
    must_refuse(client, EINVAL, 99, 0, 512)
    must_refuse(client, EINVAL, nbd.CMD_FLUSH, 0, 0, flags=0x8000)
    must(client, (0, bytes(disk[:512])), nbd.CMD_READ, 0, 512)
    data = random.randbytes(512)
    must(client, (0, b""), nbd.CMD_WRITE, 1024, 512, data, flags=FLAG_FUA)
    disk[1024:1536] = data


def write_what_may_not_be(where, export):
    client = nbd.attach(where, export, False)
    for _ in range(3):
        must(client, (0, bytes(512)), nbd.CMD_READ, 0, 512)
        must_refuse(client, EPERM, nbd.CMD_WRITE, 0, 512, nbd.request(nbd.CMD_READ, 1, 0, 512) + bytes(484))
    client.close()


def main(where, export, read_only, size, pid):
    disk = bytearray(size)
    for structured in (False, True):
        client = nbd.attach(where, export, structured)
        read_and_write(client, disk, 200)  # in memory now
        before = nbd.sleeps(pid)
        read_and_write(client, disk, TURNS, (512, BLOCK), 0)
        slept = nbd.count_sleeps(pid, before)
        print(f"structured replies {structured}: threads slept {slept} times in {TURNS} requests")
        # Twice for each: Linux wakes who reads from a Unix socket when its client has read too.  A hand-over is one more.
        if slept > TURNS * 2.6:
            sys.exit("requests are handed from thread to thread")
        for _ in range(20):
            be_refused(client, disk)
            read_and_write(client, disk, 10)
        client.close()
    write_what_may_not_be(where, read_only)


random.seed(sys.argv[6])
main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])

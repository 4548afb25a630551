#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""NBD requests that wait for something, many at once: nbd-aside.py SOCKET SIZE PID LATE FAULTY SIMPLY_FAULTY

Bursts of reads and writes, each burst in one piece, of disks that answer late.  The gateway, process PID, is to carry
those of LATE out without a thread that sleeps and wakes for each.  Of FAULTY and SIMPLY_FAULTY, for structured and
simple replies, requests 65 to 128 fail with EIO: these alone are to be answered so, and what comes behind is right.
"""
import sys

import nbd_client as nbd

EIO = 5
BLOCK = 4096
BURST = 32


def burst(client, disk, kind, number):
    """The errors that were answered; what was read is held against `disk`."""
    requests, errors = [], {}
    for cookie in range(BURST):
        at = (number * BURST + cookie) * BLOCK % len(disk)
        data = bytes([number % 251 + 1]) * BLOCK if kind == nbd.CMD_WRITE else b""
        expected = bytes(disk[at:at + BLOCK]) if kind == nbd.CMD_READ else None
        requests.append((nbd.request(kind, cookie, at, BLOCK, data), cookie, expected, at, data))
    client.sendall(b"".join(request for request, *_ in requests))
    problem = nbd.take_answers(client, [request[:3] for request in requests], errors)
    if problem:
        sys.exit(f"burst {number}: {problem[0]}")
    for _, cookie, _, at, data in requests:
        if data and cookie not in errors:
            disk[at:at + BLOCK] = data
    return list(errors.values())


def count_sleeps(where, export, size, pid, rounds=50):
    client, disk = nbd.attach(where, export, True), bytearray(size)
    for number in range(5):
        for kind in (nbd.CMD_WRITE, nbd.CMD_READ):
            burst(client, disk, kind, number)
    before = nbd.sleeps(pid)
    for number in range(rounds):
        for kind in (nbd.CMD_WRITE, nbd.CMD_READ):
            if burst(client, disk, kind, number):
                sys.exit(f"{export}: a request failed")
    sleeps = nbd.count_sleeps(pid, before) / (2 * rounds * BURST)
    print(f"{sleeps:.2f} sleeps a request")
    if sleeps > 1.8:  # with a thread for each they are 2.7; the delays have timers, whose thread wakes as well
        sys.exit("a thread slept and woke for each request")


def see_errors(where, export, size, structured):
    for kind in (nbd.CMD_READ, nbd.CMD_WRITE):
        client, disk = nbd.attach(where, f"{export}-{kind}", structured), bytearray(size)
        for number in range(8):
            wanted = [EIO] * BURST if 2 <= number < 4 else []
            errors = burst(client, disk, kind, number)
            if errors != wanted:
                sys.exit(f"{export}, kind {kind}, burst {number}: errors {errors}, wanted {wanted}")
        client.close()


def main(where, size, pid, late, faulty, simply_faulty):
    count_sleeps(where, late, size, pid)
    see_errors(where, faulty, size, True)
    see_errors(where, simply_faulty, size, False)


main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A client that sends all its window holds before it reads an answer: nbd-unread.py WHERE EXPORT SIZE WINDOW ROUNDS SEED

Each round sends WINDOW reads and writes, more than sockets hold both ways: a server that waits for room for an answer
before it reads on waits for a client that waits for it.  Then all answers are taken and held against what was written
to the disk, which is empty at first.  At last the client leaves amid its answers, and another one is served as ever.
"""
import random
import sys

import nbd_client as nbd

PLACE = 131072  # where one request may go
WRITE_BYTES = 16384
READ_SIZES = (512, 16384, 65536, 65536, PLACE)


def make_round(disk, window, chance):
    requests = []
    for cookie, place in enumerate(chance.sample(range(len(disk) // PLACE), window)):
        at = place * PLACE
        if chance.random() < 0.5:
            length = chance.choice(READ_SIZES)
            requests.append((nbd.request(nbd.CMD_READ, cookie, at, length), cookie, bytes(disk[at:at + length])))
        else:
            data = chance.randbytes(WRITE_BYTES)
            disk[at:at + WRITE_BYTES] = data
            requests.append((nbd.request(nbd.CMD_WRITE, cookie, at, WRITE_BYTES, data), cookie, None))
    return requests


def must_be_answered(client, requests):
    problem = nbd.take_answers(client, requests)
    if problem:
        sys.exit("; ".join(problem))


def connect(where, export, disk):
    """A client that was answered some requests: the server knows by then how."""
    client = nbd.attach(where, export, True)
    for _ in range(3):
        for one in ((nbd.request(nbd.CMD_WRITE, 0, 0, 512, disk[:512]), 0, None),
                    (nbd.request(nbd.CMD_READ, 0, 0, 512), 0, disk[:512])):
            client.sendall(one[0])
            must_be_answered(client, [one])
    return client


def main(where, export, size, window, rounds, seed):
    chance = random.Random(seed)
    disk = bytearray(size)
    client = connect(where, export, disk)
    for _ in range(rounds):
        requests = make_round(disk, window, chance)
        try:
            for data, _, _ in requests:
                client.sendall(data)
        except TimeoutError:
            sys.exit(f"the gateway does not read on, although only {window} requests are open")
        must_be_answered(client, requests)
    reads = [nbd.request(nbd.CMD_READ, cookie, cookie * PLACE, 65536) for cookie in range(window)]
    client.sendall(b"".join(reads))
    client.close()
    connect(where, export, disk).close()


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])

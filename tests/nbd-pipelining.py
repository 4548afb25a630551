#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""NBD requests that come as a network brings them: nbd-pipelining.py WHERE EXPORT SIZE BURSTS SEED

Sends BURSTS bursts of reads, writes, trims and flushes, many of them in one piece or cut anywhere, within a header
or within the data of a write as well, and holds every answer against what was written before.  The requests of one
burst touch blocks of their own, since a server may carry them out in any order.  Every other connection asks for
structured replies; some bursts end with a disconnection, with half a request behind it.  With SEED "count" every
burst is 32 writes of 512 bytes in one piece.
"""
import random
import sys
import threading

import nbd_client as nbd

BLOCK = 4096
SIZES = (512, 4096, 12288, 16384, 16896, 40960, 131072)


def make_burst(disk, blocks, chance):
    """[(bytes to send, cookie, data expected or None)]; `disk` becomes what it is to be afterwards."""
    burst, at = [], 0
    for cookie in range(chance.randrange(1, 60)):
        at += chance.randrange(0, 9) * BLOCK
        length = chance.choice(SIZES)
        if at + length > blocks * BLOCK:
            break
        kind = chance.choice((nbd.CMD_READ, nbd.CMD_READ, nbd.CMD_WRITE, nbd.CMD_WRITE, nbd.CMD_TRIM, nbd.CMD_FLUSH))
        data = chance.randbytes(length) if kind == nbd.CMD_WRITE else b""
        if kind == nbd.CMD_READ:
            burst.append((nbd.request(kind, cookie, at, length), cookie, bytes(disk[at:at + length])))
        elif kind == nbd.CMD_FLUSH:
            burst.append((nbd.request(kind, cookie, 0, 0), cookie, None))
        else:
            burst.append((nbd.request(kind, cookie, at, length, data), cookie, None))
            disk[at:at + length] = data or bytes(length)
        at += (length + BLOCK - 1) // BLOCK * BLOCK
    return burst


def make_small_writes(disk):
    burst = []
    for cookie in range(32):
        at = cookie * BLOCK
        disk[at:at + 512] = bytes([cookie]) * 512
        burst.append((nbd.request(nbd.CMD_WRITE, cookie, at, 512, bytes([cookie]) * 512), cookie, None))
    return burst


def pieces(stream, chance):
    """The same bytes, cut: anywhere, near the edges of headers, or not at all."""
    most = chance.choice((len(stream), len(stream), 5000, 1000, 29, 28, 27))
    at, until = 0, min(len(stream), 200 * most)
    while at < until:
        length = chance.randrange(1, most + 1) if most < len(stream) else most
        yield stream[at:at + length]
        at += length
    yield stream[at:]


def run_burst(client, burst, cut):
    """The answers are taken by a thread of their own: neither side may wait for the other for ever."""
    problem = []
    taker = threading.Thread(target=lambda: problem.extend(nbd.take_answers(client, burst)))
    taker.start()
    for piece in cut(b"".join(data for data, _, _ in burst)):
        client.sendall(piece)
    taker.join()
    if problem:
        sys.exit("; ".join(problem))


def leave(client, chance):
    """With a farewell, with half a request, or in the middle of one's data."""
    rest = nbd.request(nbd.CMD_WRITE, 99, 0, BLOCK, bytes(100))
    client.sendall(chance.choice((nbd.request(nbd.CMD_DISC, 0, 0, 0) + rest, rest, rest[:11], b"")))
    client.close()


def main(where, export, size, bursts, seed):
    chance = random.Random(seed)
    disk = bytearray(size)
    client = None
    for number in range(bursts):
        if client is None:
            client = nbd.attach(where, export, chance.random() < 0.5)
        if seed == "count":
            run_burst(client, make_small_writes(disk), lambda stream: [stream])
            continue
        run_burst(client, make_burst(disk, size // BLOCK, chance), lambda stream: pieces(stream, chance))
        if chance.random() < 0.2:
            leave(client, chance)
            client = None


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])

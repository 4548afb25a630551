#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The NBD protocol's client side, byte by byte, for tests that send what libnbd never would; and what it costs a server."""
import glob
import socket
import struct
import sys

IHAVEOPT = 0x49484156454F5054
OPT_STRUCTURED_REPLY, OPT_GO = 8, 7
REQUEST_MAGIC, SIMPLE_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM = range(5)
CHUNK_DONE = 1
CHUNK_DATA, CHUNK_HOLE = 1, 2


def connect(where):
    """WHERE: a port of this host or the path of a Unix socket."""
    if where.isdigit():
        client = socket.create_connection(("127.0.0.1", int(where)))
    else:
        client = socket.socket(socket.AF_UNIX)
        client.connect(where)
    client.settimeout(60)
    return client


def receive(client, length):
    parts = []
    while length > 0:
        part = client.recv(min(length, 1 << 20))
        if not part:
            sys.exit("the gateway hung up")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def option(client, number, data):
    """Sends an option and takes its answers up to the last one, which is to be an acknowledgement."""
    client.sendall(struct.pack(">QII", IHAVEOPT, number, len(data)) + data)
    while True:
        _, _, kind, length = struct.unpack(">QIII", receive(client, 20))
        receive(client, length)
        if kind == 1:
            return
        if kind & 0x80000000:
            sys.exit(f"option {number} was refused with {kind & 0xffff}")


def negotiate(client, export, structured):
    receive(client, 18)
    client.sendall(struct.pack(">I", 3))
    if structured:
        option(client, OPT_STRUCTURED_REPLY, b"")
    option(client, OPT_GO, struct.pack(">I", len(export)) + export.encode() + struct.pack(">H", 0))


def attach(where, export, structured):
    client = connect(where)
    negotiate(client, export, structured)
    return client


def request(kind, cookie, offset, length, data=b"", flags=0):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, kind, cookie, offset, length) + data


def receive_chunk(client, reads):
    """One message: (cookie, error, data, is_last); `reads` has the lengths of reads by their cookies."""
    magic = struct.unpack(">I", receive(client, 4))[0]
    if magic == SIMPLE_MAGIC:
        error, cookie = struct.unpack(">IQ", receive(client, 12))
        return cookie, error, receive(client, 0 if error else reads.get(cookie, 0)), True
    if magic != CHUNK_MAGIC:
        sys.exit(f"a reply begins with {magic:#x}")
    flags, kind, cookie, length = struct.unpack(">HHQI", receive(client, 16))
    body = receive(client, length)
    error = struct.unpack(">I", body[:4])[0] if kind & 0x8000 else 0
    data = body[8:] if kind == CHUNK_DATA else bytes(struct.unpack(">I", body[8:])[0]) if kind == CHUNK_HOLE else b""
    return cookie, error, data, bool(flags & CHUNK_DONE)


def receive_answer(client, reads):
    """All of one answer while no other comes: (cookie, error, data)."""
    cookie, error, data, is_last = receive_chunk(client, reads)
    while not is_last:
        again, another, more, is_last = receive_chunk(client, reads)
        if again != cookie:
            sys.exit(f"an answer to request {again} within that to {cookie}")
        error, data = error or another, data + more
    return cookie, error, data


def take_answers(client, burst, errors=None):
    """What is wrong: of [(request, cookie, data expected or None)] each is answered once, right and without an error;
    where `errors` is given it gets those, by their cookies."""
    wanted = {cookie: data for _, cookie, data in burst}
    lengths = {cookie: len(data) for cookie, data in wanted.items() if data is not None}
    got = {cookie: b"" for cookie in lengths}
    while wanted:
        try:
            cookie, error, data, is_last = receive_chunk(client, lengths)
        except (OSError, SystemExit) as problem:
            return [f"{problem}; {len(wanted)} requests were not answered"]
        if cookie in wanted and error and errors is not None and is_last:
            errors[cookie] = error
            del wanted[cookie]
            continue
        if cookie not in wanted or error:
            return [f"request {cookie} was answered with error {error}, open are {sorted(wanted)}"]
        if data:
            got[cookie] += data
        if is_last and wanted.pop(cookie) not in (None, got.get(cookie)):
            return [f"request {cookie} read {lengths[cookie]} bytes wrong"]
    return []


def sleeps(pid):
    """How often each thread of the process has waited for something."""
    counts = {}
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="ascii") as status:
            counts[path] = int(next(line for line in status if line.startswith("voluntary_")).split()[1])
    return counts


def count_sleeps(pid, before):
    return sum(count - before.get(path, 0) for path, count in sleeps(pid).items())

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD client that vanishes amid its replies: vanishing-client.py WHERE EXPORT TIMES

WHERE is a port of this host or the path of a Unix socket.  TIMES times it connects, asks for many large reads at
once, takes a part of the answers that differs from time to time, and is gone: by a reset on TCP, with unread
answers on a Unix socket.  Every other time it has asked for structured replies.
"""
import random
import socket
import struct
import sys

IHAVEOPT = 0x49484156454F5054
OPT_STRUCTURED_REPLY, OPT_GO = 8, 7
REQUESTS, LENGTH = 24, 512 * 1024


def connect(where):
    if where.isdigit():
        client = socket.create_connection(("127.0.0.1", int(where)))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
    else:
        client = socket.socket(socket.AF_UNIX)
        client.connect(where)
    client.settimeout(60)
    return client


def receive(client, length):
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            sys.exit("the gateway hung up during the negotiation")
        data += part
    return data


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


def vanish(where, export, count):
    client = connect(where)
    negotiate(client, export, count % 2 == 0)
    for i in range(REQUESTS):
        client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, i * LENGTH, LENGTH))
    wanted = random.randrange(1, LENGTH * 4)
    while wanted > 0:
        wanted -= len(client.recv(min(wanted, 65536))) or sys.exit("the gateway hung up")
    client.close()


for time in range(int(sys.argv[3])):
    random.seed(time)
    vanish(sys.argv[1], sys.argv[2], time)

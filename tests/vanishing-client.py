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

import nbd_client

REQUESTS, LENGTH = 24, 512 * 1024


def vanish(where, export, count):
    client = nbd_client.connect(where)
    if where.isdigit():
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
    nbd_client.negotiate(client, export, count % 2 == 0)
    for i in range(REQUESTS):
        client.sendall(nbd_client.request(nbd_client.CMD_READ, i, i * LENGTH, LENGTH))
    wanted = random.randrange(1, LENGTH * 4)
    while wanted > 0:
        wanted -= len(client.recv(min(wanted, 65536))) or sys.exit("the gateway hung up")
    client.close()


for time in range(int(sys.argv[3])):
    random.seed(time)
    vanish(sys.argv[1], sys.argv[2], time)

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# notify-listener.py SOCKET FILE: plays the service manager of sd_notify(3): binds the datagram socket and
# appends each line it is sent to FILE, until it is killed.
import socket
import sys

listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
while True:
    data = listener.recv(4096).decode()
    with open(sys.argv[2], "a") as out:
        out.write(data + "\n")

# SPDX-License-Identifier: BSD-3-Clause
"""replay-peer.py FOLDER UUID PORT CA CERTIFICATE KEY FROM TO CHANNEL WHAT: somebody who has a peer's key and captured frames.

FOLDER has `super` and `journal` of the follower, whose records are the frames as they came (docs/replication-format.md).
Connects as FROM to the gateway TO, greets as the primary that it was, and says what was captured once more. WHAT:
`stream`: as it was; `epoch`: with the nonce of this connection's READY, and the epoch before the present one;
`lineage`: as it was, after a greeting of a primary that knows nothing of the present epoch.
Prints the gateway's answers: the type of each frame, of FAIL its sentence. Ends when it has said no more for a second.
"""
import os
import socket
import ssl
import sys

folder, uuid, port, ca, certificate, key, sender, receiver, channel, what = sys.argv[1:]
TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)
NAMES = {1: "HELLO", 2: "READY", 9: "ACK", 10: "FAIL"}


def crc(data):
    value = 0xFFFFFFFF
    for octet in data:
        value = value >> 8 ^ TABLE[(value ^ octet) & 255]
    return value ^ 0xFFFFFFFF


def big(value, size=4):
    return value.to_bytes(size, "big")


def little(value, size=8):
    return value.to_bytes(size, "little")


def number(data, at, size=8):
    return int.from_bytes(data[at : at + size], "little")


# --- docs/peer.md ---
def frame(kind, number_of_channel, payload=b""):
    head = big(len(payload)) + bytes([kind, 0]) + big(1, 2) + big(number_of_channel)
    return head + big(crc(head + payload)) + payload


def dial():
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))))


def take(connection, wait):
    connection.settimeout(wait)
    try:
        head = b""
        while len(head) < 16:
            more = connection.recv(16 - len(head))
            if not more:
                return None
            head += more
        payload = b""
        while len(payload) < int.from_bytes(head[:4], "big"):
            payload += connection.recv(int.from_bytes(head[:4], "big") - len(payload))
        return head[4], int.from_bytes(head[8:12], "big"), payload
    except (socket.timeout, ConnectionError, ssl.SSLError):
        return None


def greet(which, boot, group):
    connection = dial()
    hello = b"SluicePeer" + big(1, 2) + big(1, 2) + bytes([which, 1, 0, 0, 0, 0]) + big(4 << 20) + boot + group
    hello += bytes([len(sender), len(receiver)]) + bytes(10) + sender.encode() + receiver.encode()
    connection.sendall(frame(1, 0, hello))
    answer = take(connection, 5)
    if not answer or answer[0] != 2:
        sys.exit(f"replay-peer: no welcome: {answer}")
    return connection


# --- docs/replication-protocol.md ---
def message(kind, flags, epoch, seq, offset, length, payload=b""):
    head = little(0x31465253, 4) + little(1, 2) + bytes([kind, flags]) + b"".join(little(n) for n in (epoch, seq, offset, length))
    return head + little(crc(head + bytes(8) + payload), 4) + bytes(4) + payload


def captured():
    ring = open(os.path.join(folder, "journal"), "rb").read()
    at, found = 0, []
    while at + 88 <= len(ring):
        if number(ring, at, 4) == 0x3352524A and crc(ring[at + 8 : at + 40]) == number(ring, at + 4, 4):
            payload = number(ring, at + 72) if ring[at + 46] in (4, 8) else 0
            found.append(ring[at + 40 : at + 88 + payload])
            at += (88 + payload + 7) // 8 * 8
        else:
            at += 8
    return found


def changed(old, nonce, epoch):
    offset = nonce if old[6] == 3 else number(old, 24)
    return message(old[6], old[7], epoch, number(old, 16), offset, number(old, 32), old[48:])


def said(connection, wait):
    while True:
        found = take(connection, wait)
        if not found:
            return None
        kind, _, payload = found
        if kind == 9:
            return "OPEN", found[1], payload
        if kind == 11:
            name = NAMES.get(payload[6], str(payload[6]))
            print(name, payload[48:].decode("latin-1") if name == "FAIL" else "", flush=True)
            return name, 0, payload


state = open(os.path.join(folder, "super"), "rb").read()
size, disk = number(state, 32), 14695981039346656037
for octet in uuid.encode():
    disk = (disk ^ octet) * 1099511628211 % 2**64
epochs = [[number(state, 112 + 24 * i + 8 * k) for k in range(3)] for i in range(number(state, 104))]
if what == "lineage":
    epochs.pop()
boot, group = os.urandom(16), os.urandom(16)
control, stream = greet(0, boot, group), greet(1, boot, group)
stream.sendall(frame(9, 7, big(4 << 20) + channel.encode()))
reached = None
while not reached or reached[0] != "OPEN":
    reached = said(stream, 5)
    if not reached:
        sys.exit("replay-peer: the channel is not opened")
their = reached[1]
lineage = little(len(epochs)) + b"".join(little(n) for epoch in epochs for n in epoch)
hello = bytes([1, 2]) + bytes(6) + little(size) + little(1 << 40) + little(disk) + little(1 << 40) + lineage
stream.sendall(frame(11, their, message(1, 0, epochs[-1][0], 0, 0, 0, hello)))
ready = None
while True:
    found = said(stream, 1)
    if not found:
        break
    if found[0] == "READY":
        ready = found[2]
frames = captured()
print(f"{len(frames)} captured", flush=True)
for old in frames:
    if what == "epoch":
        old = changed(old, number(ready, 16), epochs[-2][0])
    try:
        stream.sendall(frame(11, their, old))
    except (ConnectionError, ssl.SSLError):
        break
while said(stream, 1):
    pass

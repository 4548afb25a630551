#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# hub.py PID...: a network between the network namespaces of these processes: each gets an interface eth0, and what one
# sends, all others receive. Says "ready" when they are there.  For kernels without veth; needs /dev/net/tun.
import ctypes
import fcntl
import os
import select
import struct
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def tap_in(pid):
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"the namespace of {pid}")
    os.close(namespace)
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TAP | IFF_NO_PI))
    return tap


def forward(source, taps):
    try:
        frame = os.read(source, 65536)
    except BlockingIOError:
        return
    for tap in taps:
        if tap != source:
            try:
                os.write(tap, frame)
            except OSError:  # down, or full: a frame is lost
                pass


def main():
    taps = [tap_in(pid) for pid in sys.argv[1:]]
    poll = select.poll()
    for tap in taps:
        poll.register(tap, select.POLLIN)
    print("ready", flush=True)
    while True:
        for tap, events in poll.poll():
            if events & select.POLLIN:
                forward(tap, taps)
            elif events:  # down for now
                select.select([], [], [], 0.01)


main()

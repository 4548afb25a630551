#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-farewell PORT TARGET OTHER-TARGET GATEWAY-PID RELOAD...: what sessions are told when they are ended: by a cold
reset of their target, by a reload (RELOAD... takes OTHER-TARGET from its initiators), and by the gateway, which asks for
a logout before it stops, but waits for nobody who does not obey."""
import os
import signal
import struct
import subprocess
import sys

from iscsi_initiator import *

PORT, TARGET, OTHER, PID, RELOAD = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]
LOGOUT_REQUESTED, SESSION_DROPS = 1, 3


def new(name, target):
    return Initiator(PORT, name="iqn.2001-04.com.example:" + name).login(target).settle()


def told(i):
    """The event that comes next, and its last parameter."""
    while True:
        pdu = i.receive()
        if pdu.opcode == ASYNC:
            assert pdu.u32(16) == NO_TAG and pdu.flags == FINAL, pdu.head.hex()
            return pdu.head[36], struct.unpack_from(">H", pdu.head, 42)[0]
        assert pdu.opcode == NOP_IN, hex(pdu.opcode)


def expect_dropped(i, what):
    assert told(i)[0] == SESSION_DROPS, what
    assert i.is_closed(), what
    i.close()


first, second, apart = new("first", TARGET), new("second", TARGET), new("apart", OTHER)
first.send(struct.pack(">BBxx4xQIIIIII", TASK | 0x40, FINAL | 7, 0, first.next_tag(), NO_TAG, first.cmdsn, first.statsn, 0, 0))
answer = first.receive()
assert answer.opcode == TASK_RESPONSE and answer.head[2] == 0, answer.head.hex()
expect_dropped(first, "who sent the cold reset")
expect_dropped(second, "another session of the target")
assert apart.test_unit_ready() == 0
print("a cold reset ends the sessions of its target, and no others")

subprocess.run(RELOAD, check=True)
expect_dropped(apart, "who may use nothing there any more")
print("a reload that takes a target away says so")

polite, rude = new("polite", TARGET), new("rude", TARGET)
os.kill(PID, signal.SIGTERM)
event, seconds = told(polite)
assert event == LOGOUT_REQUESTED and seconds > 0, (event, seconds)
polite.send(struct.pack(">BBxx4x8xIHxxII", LOGOUT | 0x40, FINAL, polite.next_tag(), 0, polite.cmdsn, polite.statsn))
answer = polite.receive()
assert answer.opcode == LOGOUT_RESPONSE and answer.head[2] == 0, answer.head.hex()
assert told(rude)[0] == LOGOUT_REQUESTED
assert rude.is_closed(), "the gateway did not end"
print("before it stops the gateway asks for logouts within %d s" % seconds)

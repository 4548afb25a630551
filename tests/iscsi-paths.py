# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-paths.py PORT TARGET QUESTION...: what an initiator is told on one path to a replicated disk.

    login       "in", or the status of the login response
    portals     of SendTargets, in its order
    tur         "ready", or the sense of TEST UNIT READY
    read        the same for a READ
    groups      of REPORT TARGET PORT GROUPS: id=state
    name        the designators of the logical unit alone (NAA), the same on each path
    erasing     "none" if SANITIZE and FORMAT UNIT are no commands there, nor said to be
    standby     "served" if all that a path in standby has to serve is: INQUIRY, REPORT LUNS, READ CAPACITY,
                MODE SENSE, REPORT TARGET PORT GROUPS, PERSISTENT RESERVE IN
"""
import struct
import sys

import iscsi_initiator as iscsi

STATES = {0: "optimized", 1: "non-optimized", 2: "standby", 3: "unavailable", 15: "transitioning"}
SERVED = {
    "INQUIRY": struct.pack(">BBBHB", 0x12, 0, 0, 255, 0),
    "REPORT LUNS": struct.pack(">BB4xIxx", 0xA0, 0, 256),
    "READ CAPACITY": struct.pack(">B9x", 0x25),
    "READ CAPACITY (16)": struct.pack(">BB8xIxx", 0x9E, 0x10, 32),
    "MODE SENSE": struct.pack(">BBBBBB", 0x1A, 0, 0x3F, 0, 255, 0),
    "REPORT TARGET PORT GROUPS": struct.pack(">BB4xIxx", 0xA3, 0x0A, 255),
    "PERSISTENT RESERVE IN": struct.pack(">BB5xHx", 0x5E, 0, 255),
}


def sense(status, data, response):
    if status == 0:
        return "ready"
    assert status == 2, f"status {status}"
    fixed = response.data[2:]
    return "%02x/%02x/%02x" % (fixed[2] & 0xF, fixed[12], fixed[13])


def ask(path, cdb, flags=iscsi.FINAL, length=0):
    """Past the unit attention of a new nexus or of a change of the state."""
    for _ in range(4):
        answer = path.command(cdb.ljust(16, b"\0"), flags, length)
        if answer[0] != 2 or answer[2].data[4] & 0xF != 6:
            return answer
    raise AssertionError("unit attentions without end")


def groups(path):
    _, data, _ = ask(path, SERVED["REPORT TARGET PORT GROUPS"], iscsi.FINAL | iscsi.READ, 255)
    length = struct.unpack(">I", data[:4])[0]
    found = []
    at = 4
    while at < 4 + length:
        ports = data[at + 7]
        found.append("%d=%s" % (struct.unpack_from(">H", data, at + 2)[0], STATES[data[at] & 0xF]))
        at += 8 + 4 * ports
    return " ".join(found)


def name(path):
    """Designators whose association is the logical unit."""
    _, data, _ = ask(path, struct.pack(">BBBHB", 0x12, 1, 0x83, 255, 0), iscsi.FINAL | iscsi.READ, 255)
    found, at = [], 4
    while at < len(data):
        if data[at + 1] & 0x30 == 0:
            found.append(data[at : at + 4 + data[at + 3]].hex())
        at += 4 + data[at + 3]
    return " ".join(found)


def served(path):
    for what, cdb in SERVED.items():
        status, data, _ = ask(path, cdb, iscsi.FINAL | iscsi.READ, 256)
        assert status == 0 and data, f"{what}: status {status}"
    return "served"


def erasing(path):
    for cdb in (bytes([0x48, 0x82]), bytes([0x48, 0x83]), bytes([0x04, 0])):
        assert sense(*ask(path, cdb)) == "05/20/00", cdb.hex()
        options = 2 if cdb[0] == 0x48 else 1
        query = struct.pack(">BBBBHIxx", 0xA3, 0x0C, options, cdb[0], cdb[1] & 0x1F, 64)
        assert ask(path, query, iscsi.FINAL | iscsi.READ, 64)[1][1] & 7 == 1, cdb.hex()
    return "none"


def portals(path):
    text = b"SendTargets=\0"
    path.send(struct.pack(">BBxx12xIIII", iscsi.TEXT, iscsi.FINAL, path.next_tag(), iscsi.NO_TAG, path.cmdsn, path.statsn), text)
    answer = path.receive()
    assert answer.opcode == iscsi.TEXT_RESPONSE, answer.opcode
    return " ".join(p[14:].decode() for p in answer.data.split(b"\0") if p.startswith(b"TargetAddress="))


QUESTIONS = {
    "portals": portals,
    "tur": lambda path: sense(*ask(path, bytes(6))),
    "read": lambda path: sense(*ask(path, iscsi.read10(0, 1), iscsi.FINAL | iscsi.READ, 512)),
    "groups": groups,
    "name": name,
    "erasing": erasing,
    "standby": served,
}


def main():
    port, target, questions = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    path = iscsi.Initiator(port)
    answer = path.login_pdu(1, 3, path.names(target))
    if "login" in questions:
        print("in" if answer.status == 0 else "%02x/%02x" % (answer.status >> 8, answer.status & 0xFF))
    else:
        assert answer.status == 0, hex(answer.status)
    for question in questions:
        if question != "login":
            print(QUESTIONS[question](path))
    path.close()


main()

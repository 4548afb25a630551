#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""make-iscsi-corpus DIR: what the corpora of fuzz-iscsi-text and fuzz-iscsi-login began with."""
import os
import struct
import sys

NAMES = b"InitiatorName=iqn.2001-04.com.example:host\0TargetName=iqn.2001-04.com.example:disk\0SessionType=Normal\0"


def head(flags, length, isid=b"\x80\0\0\0\0\1"):
    return struct.pack(">BBBBI6sHIHxxII16x", 0x43, flags, 0, 0, length, isid, 0, 7, 0, 1, 1)


def login(how, *requests):
    return bytes([how]) + b"".join(head(f, len(t)) + t for f, t in requests)


LOGINS = {
    "plain": login(0, (0x87, NAMES)),
    "two-stages": login(0, (0x81, NAMES + b"AuthMethod=CHAP,None\0"), (0x04, b"InitialR2T=No\0"), (0x87, b"")),
    "chap": login(3, (0x81, NAMES + b"AuthMethod=CHAP\0"), (0, b"CHAP_A=5,7\0"),
                  (0x81, b"CHAP_N=user\0CHAP_R=0x00112233445566778899aabbccddeeff\0CHAP_I=1\0CHAP_C=0b" + b"A" * 24 + b"\0")),
    "pieces": login(0, (0x44, NAMES[:20]), (0x87, NAMES[20:])),
    "no-chap": login(1, (0x87, NAMES)),
    "forbidden": login(4, (0x87, NAMES)),
    "discovery": login(0, (0x87, b"InitiatorName=iqn.a:b\0SessionType=Discovery\0InitialR2T=No\0")),
}
TEXTS = {
    "all": b"\x80" + b"".join(k + b"\0" for k in (
        b"HeaderDigest=CRC32C,None", b"DataDigest=None", b"MaxConnections=4", b"InitialR2T=No", b"ImmediateData=Yes",
        b"MaxRecvDataSegmentLength=262144", b"MaxBurstLength=16776192", b"FirstBurstLength=0x10000",
        b"DefaultTime2Wait=2", b"DefaultTime2Retain=0", b"MaxOutstandingR2T=1", b"DataPDUInOrder=Yes",
        b"DataSequenceInOrder=Yes", b"ErrorRecoveryLevel=2", b"TaskReporting=RFC3720,FastAbort",
        b"iSCSIProtocolLevel=1", b"IFMarker=No", b"OFMarkInt=1~2", b"X-odd=1")),
    "binary": b"\x01A=0x0123456789abcdef\0B=0bAQIDBA==\0C=0bAAA=\0D=0xfff\0",
    "numbers": b"\x02MaxBurstLength=4294967296\0FirstBurstLength=-1\0MaxOutstandingR2T=0x\0MaxConnections=1~2\0",
    "broken": b"\x03=\0k\0" + b"k" * 64 + b"=v\0",
    "ahs": b"\0\x11\1\0" + bytes(16) + b"\0\5\2\0\1\2\3\4",
}
for folder, inputs in (("iscsi-login", LOGINS), ("iscsi-text", TEXTS)):
    os.makedirs(os.path.join(sys.argv[1], folder), exist_ok=True)
    for name, data in inputs.items():
        with open(os.path.join(sys.argv[1], folder, name), "wb") as out:
            out.write(data)

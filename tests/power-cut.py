#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# power-cut.py FOLDER SEED: after a gateway with tests/tools/power.so was ended by SIGKILL, takes from its files what
# it had not made durable: of each sector one version of those since the last sync, at random, the oldest and the
# newest more often than others.  In one of eight files nothing is lost, in one all that can be.  The logs of the
# folder are used up.  Prints how many sectors there were, and how many of them went back.
import os
import random
import struct
import sys

FORMER, SYNC, DURABLE = 1, 2, 3
RECORD = struct.Struct("<QQQ")
SECTOR = 512


def records(log):
    """Each as (where it begins, kind, offset, length, former contents)."""
    at = 0
    while at + RECORD.size <= len(log):
        kind, offset, length = RECORD.unpack_from(log, at)
        begin = at
        at += RECORD.size
        data = None
        if kind == FORMER:
            data = log[at : at + length]
            at += length
            if at > len(log):
                return  # killed before the write
        yield begin, kind, offset, length, data


def pending(log):
    """By sector: its former versions, oldest first, that a power cut may bring back."""
    sectors = {}
    for begin, kind, offset, length, data in records(log):
        if kind == SYNC:
            for versions in sectors.values():
                versions[:] = [v for v in versions if v[0] >= offset]
            continue
        first, last = offset // SECTOR, (offset + length + SECTOR - 1) // SECTOR
        for number in range(first, last):
            if kind == DURABLE:
                sectors.pop(number, None)
                continue
            low, high = max(number * SECTOR, offset), min((number + 1) * SECTOR, offset + length)
            sectors.setdefault(number, []).append((begin, low, data[low - offset : high - offset]))
    return {number: versions for number, versions in sectors.items() if versions}


def put_back(f, versions, survivors):
    """The first `survivors` of the writes to a sector stay; later ones are undone, newest first."""
    for _, offset, data in reversed(versions[survivors:]):
        f.seek(offset)
        f.write(data)


def cut(path, sectors, rng):
    """A file of which nothing, all, or any subset of the sectors is lost."""
    mood, lost = rng.randrange(8), 0
    with open(path, "r+b") as f:
        size = os.fstat(f.fileno()).st_size
        for number in sorted(sectors):
            versions = sectors[number]
            choices = [0, len(versions), rng.randint(0, len(versions))]
            survivors = {0: len(versions), 1: 0}.get(mood, rng.choice(choices))
            lost += survivors < len(versions)
            put_back(f, versions, survivors)
        f.truncate(size)
    return lost


def main():
    folder, rng = sys.argv[1], random.Random(int(sys.argv[2]))
    total = lost = 0
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".log"):
            continue
        base = os.path.join(folder, name[: -len(".log")])
        with open(base + ".path", encoding="utf-8") as f:
            path = f.read()
        with open(base + ".log", "rb") as f:
            sectors = pending(f.read())
        if sectors and os.path.exists(path):
            total += len(sectors)
            lost += cut(path, sectors, rng)
        os.remove(base + ".log")
        os.remove(base + ".path")
    print(f"{total} sectors were not durable, {lost} of them went back")


main()

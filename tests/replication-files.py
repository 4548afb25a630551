# SPDX-License-Identifier: BSD-3-Clause
"""replication-files.py FOLDER [IMAGE [PEER]]: a reader of what replication keeps, written from docs/replication-format.md alone.

Prints `super`, `evidence`, `journal`, `settled`, `spill`, `verified` and `seal N` lines.  With an IMAGE, not "", it spoils
what the journal is about there and carries out the redo; with a PEER's image it does there what waits
in `spill`.  Exits 1 when a file is not what the page says.
"""
import glob
import os
import sys

GRAIN, EXTENT, BLOCK, RECORD = 1 << 16, 1 << 20, 4096, 88
BEGIN, WRITE, ZERO, TRIM, COMMIT, SNAPSHOT, OF_DISK = 3, 4, 5, 6, 8, 17, 19
TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def number(data, at, length=8):
    return int.from_bytes(data[at : at + length], "little")


def refuse(sentence):
    sys.exit(f"replication-files: {sentence}")


def is_whole(data, magic, end=None):
    return number(data, 0, 4) == magic and number(data, 4, 4) == crc(data[8:end])


def read_super(data):
    if not is_whole(data, 0x31505253) or number(data, 8) != 4:
        refuse("super is damaged or of another version")
    at = 104
    count = number(data, at)
    if count > 64 or len(data) != at + 8 + 24 * count:
        refuse("super has another length than its lineage says")
    epochs = [[number(data, at + 8 + 24 * i + 8 * k) for k in range(3)] for i in range(count)]
    found = {"role": ("secondary", "primary")[data[16]], "data": ("none", "half", "consistent")[data[17]],
             "alone": data[18] & 1, "split": data[18] >> 1 & 1, "epoch": epochs[-1][0] if epochs else 0,
             "size": number(data, 32), "tail": number(data, 40), "term": number(data, 48), "life": number(data, 56),
             "log": number(data, 64), "backlog": number(data, 80), "synced": number(data, 96)}
    print("super", *(f"{key}={value}" for key, value in found.items()))
    return found | {"id": number(data, 88)}


def read_settled(folder, head):
    path = os.path.join(folder, "settled")
    data = open(path, "rb").read() if head["backlog"] and os.path.exists(path) else b""
    if data and (not is_whole(data, 0x31545353) or number(data, 8) != 1 or len(data) != 32 + (number(data, 24) + 7) // 8):
        refuse("settled is damaged or of another version")
    counts = data and number(data, 16) == head["id"]
    extents = [x for x in range(number(data, 24)) if data[32 + x // 8] >> x % 8 & 1] if counts else []
    print(f"settled extents={','.join(map(str, extents))}")
    return set(extents)


def read_evidence(data, head):
    logs = [block for block in (data[:BLOCK], data[BLOCK : 2 * BLOCK]) if is_whole(block, 0x314C4153)]
    if not logs and any(data[: 2 * BLOCK]):
        refuse("no activity log counts")
    grains = {g for g in range(head["size"] // GRAIN + 1) if 2 * BLOCK + g // 8 < len(data) and data[2 * BLOCK + g // 8] >> g % 8 & 1}
    active = []
    generation = 0
    if logs:
        log = max(logs, key=lambda block: number(block, 8))
        generation = number(log, 8)
        if log != data[generation % 2 * BLOCK :][:BLOCK] or number(log, 16) > 500:
            refuse("the activity log is not in its place")
        active = sorted(number(log, 24 + 8 * i) for i in range(number(log, 16)))
    if generation < head["log"]:
        refuse("the activity log is older than super says")
    print(f"evidence generation={generation} active={','.join(map(str, active))} dirty={','.join(map(str, sorted(grains)))}")


def record_at(ring, position, term):
    at = position % len(ring)
    head = ring[at : at + RECORD]
    if len(head) < RECORD or not is_whole(head, 0x3352524A, 40) or number(head, 8) != position or number(head, 16) < term:
        return None
    kind = head[46]
    payload = number(head, 72) if kind in (WRITE, COMMIT, SNAPSHOT, OF_DISK) else 0
    frame = ring[at + 40 : at + RECORD + payload]
    bare = frame[:40] + bytes(4) + frame[44:]
    if number(frame, 0, 4) != 0x31465253 or number(frame, 4, 2) != 1 or number(frame, 40, 4) != crc(bare):
        return None
    return {"kind": kind, "seq": number(frame, 16), "offset": number(frame, 24), "bytes": number(frame, 32), "data": frame[48:],
            "term": number(head, 16), "after": number(head, 24), "end": position + (RECORD + payload + 7) // 8 * 8}


def read_journal(ring, head):
    position, term, records, begun = head["tail"], head["term"], [], None
    while not head["backlog"] or position < head["backlog"]:
        found = record_at(ring, position, term)
        if not found:
            found = record_at(ring, position + len(ring) - position % len(ring), term)
            if not found or found["after"] != position:
                break
        if found["kind"] == BEGIN:
            begun = len(records)
        elif found["kind"] == COMMIT:
            begun = None
        position, term = found["end"], found["term"]
        records.append(found)
    if position < head["backlog"]:
        refuse(f"the journal ends at {position}, and was served up to {head['backlog']}")
    kept = records if begun is None or head["backlog"] else records[:begun]
    kinds = {name: sum(r["kind"] == kind for r in kept) for name, kind in (("writes", WRITE), ("zeros", ZERO), ("trims", TRIM))}
    print(f"journal end={position} records={len(records)} cut={len(records) - len(kept)}", *(f"{k}={n}" for k, n in kinds.items()))
    return kept


def spilled_at(ring, position, life):
    at = position % len(ring)
    head = ring[at : at + 40]
    if len(head) < 40 or not is_whole(head, 0x31525053, 40) or number(head, 8) != position or number(head, 16) != life:
        return None
    frame = ring[at + 40 : at + 40 + number(head, 32)]
    bare = frame[:40] + bytes(4) + frame[44:]
    if number(frame, 0, 4) != 0x31465253 or frame[6] not in (WRITE, ZERO, TRIM, OF_DISK) or number(frame, 40, 4) != crc(bare):
        return None
    return {"kind": frame[6], "seq": number(frame, 16), "offset": number(frame, 24), "bytes": number(frame, 32), "data": frame[48:],
            "before": number(head, 24), "end": position + (40 + len(frame) + 7) // 8 * 8}


def read_spill(data):
    if any(data[:BLOCK]) and not is_whole(data, 0x31485053, 40):
        refuse("spill is damaged or of another version")
    ring = data[BLOCK : len(data) - (len(data) - BLOCK) % 8]
    life, first, records = number(data, 8), number(data, 16), []
    position = first
    while life:
        found = spilled_at(ring, position, life)
        if not found:
            found = spilled_at(ring, position + len(ring) - position % len(ring), life)
        if not found or found["end"] - first > len(ring) or (records and found["before"] != records[-1]["seq"]):
            break
        position = found["end"]
        records.append(found)
    ends = f"{records[0]['before'] + 1} to={records[-1]['seq']}" if records else "0 to=0"
    print(f"spill records={len(records)} from={ends}")
    return records


def read_verified(data):
    if len(data) != 64 or not is_whole(data, 0x31465653):
        refuse("verified is damaged or of another version")
    names = ("bytes", "differing", "unread", "skipped")
    print(f"verified outcome={('never', 'same', 'differs', 'ended')[number(data, 8, 4)]} repaired={number(data, 12, 4)}",
          f"began={number(data, 16)} seconds={number(data, 24)}", *(f"{n}={number(data, 32 + 8 * i)}" for i, n in enumerate(names)))


def carry_out(records, path):
    with open(path, "r+b") as image:
        for r in records:
            image.seek(r["offset"])
            image.write(r["data"] if r["kind"] == WRITE else bytes(r["bytes"]))


def pieces(records, settled):
    for r in records:
        at, end = r["offset"], r["offset"] + r["bytes"]
        while r["kind"] in (WRITE, ZERO, TRIM) and at < end:
            to = min(at // EXTENT * EXTENT + EXTENT, end)
            if at // EXTENT not in settled:
                yield r | {"offset": at, "bytes": to - at, "data": r["data"][at - r["offset"] : to - r["offset"]]}
            at = to


def redo(records, path):
    with open(path, "r+b") as image:
        for r in records: # nothing but the journal is to have it
            image.seek(r["offset"])
            image.write(b"\xee" * r["bytes"])
    carry_out(records, path)


def read_seal(path, head):
    data = open(path, "rb").read()
    if not is_whole(data, 0x314C5353) or number(data, 8) != 1 or number(data, 64) != GRAIN or number(data, 56) > head["size"]:
        refuse(f"{path} is damaged or of another version")
    grains = [g for g in range((len(data) - 160) * 8) if data[160 + g // 8] >> g % 8 & 1]
    if len(grains) != number(data, 144):
        refuse(f"{path} counts {number(data, 144)} grains and names {len(grains)}")
    print(f"seal epoch={number(data, 80)} reason={number(data, 136)} grains={','.join(map(str, grains))}")


folder = sys.argv[1]
state = read_super(open(os.path.join(folder, "super"), "rb").read())
read_evidence(open(os.path.join(folder, "evidence"), "rb").read(), state)
kept_records = read_journal(open(os.path.join(folder, "journal"), "rb").read(), state)
settled_extents = read_settled(folder, state)
for seal in sorted(glob.glob(os.path.join(folder, "seal-*[0-9]"))):
    read_seal(seal, state)
waiting = read_spill(open(os.path.join(folder, "spill"), "rb").read()) if os.path.exists(os.path.join(folder, "spill")) else []
if os.path.exists(os.path.join(folder, "verified")):
    read_verified(open(os.path.join(folder, "verified"), "rb").read())
if len(sys.argv) > 2 and sys.argv[2]:
    redo(list(pieces(kept_records, settled_extents)), sys.argv[2])
if len(sys.argv) > 3:
    carry_out(waiting, sys.argv[3])

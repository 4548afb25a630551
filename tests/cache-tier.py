# SPDX-License-Identifier: BSD-3-Clause
"""cache-tier.py TIER [DISK-IMAGE]: a reader of the cache's tiers, written from docs/cache-format.md alone.

Prints a line `block N slot N dirty|clean` for each cached block, and `damaged` where its CRC is wrong.  With an image of the disk it also
compares every dirty block's data with it, and exits 1 when one differs or there is none.
"""
import sys

BLOCK = 4096
TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc(data, value=0):
    value ^= 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def number(data, at, length):
    return int.from_bytes(data[at : at + length], "little")


def is_whole(block, magic):
    bare = block[:12] + bytes(4) + block[16:]
    return number(block, 0, 8) == magic and number(block, 8, 4) == 2 and number(block, 12, 4) == crc(bare)


SUPER = {"generation": (16, 8), "nonce": (24, 8), "incarnation": (32, 8), "segment_blocks": (64, 4),
         "segment_count": (68, 4), "checkpoint_blocks": (72, 4), "first_block": (76, 4), "released": (80, 8),
         "segment": (88, 8), "block": (96, 8), "sequence": (104, 8), "end": (112, 8), "tail": (120, 8),
         "clean": (128, 8), "entries": (136, 8), "entries_crc": (144, 4),
         "order_segment": (152, 8), "order_block": (160, 8)}
CHUNK = {"nonce": (16, 8), "incarnation": (24, 8), "segment": (32, 8), "sequence": (40, 8), "durable": (48, 8),
         "tail": (56, 8), "clean": (64, 8), "entries": (72, 4), "data": (76, 4),
         "order_segment": (4048, 8), "order_block": (4056, 8)}


def fields(block, table):
    return {name: number(block, at, length) for name, (at, length) in table.items()}


def newer_superblock(tier):
    blocks = [tier[0:BLOCK], tier[BLOCK : 2 * BLOCK]]
    good = [fields(b, SUPER) for b in blocks if is_whole(b, 0x72657053756C5331)]
    return max(good, key=lambda s: s["generation"])


def slot_of(s, segment, block):
    return s["first_block"] + segment % s["segment_count"] * s["segment_blocks"] + block


def chunk_at(tier, s, segment, block, sequence):
    """None, or the header and its entries: (block, kind, slot, segment, crc)."""
    if block >= s["segment_blocks"]:
        return None
    slot = slot_of(s, segment, block)
    raw = tier[slot * BLOCK : (slot + 1) * BLOCK]
    if not is_whole(raw, 0x6B6E7543756C5331):
        return None
    h = fields(raw, CHUNK)
    if (h["nonce"], h["incarnation"], h["segment"], h["sequence"]) != (s["nonce"], s["incarnation"], segment, sequence):
        return None
    entries, h["is_whole"] = [], True
    for i in range(h["entries"]):
        at = 80 + 16 * i
        kind = raw[at + 6]
        if kind != 3:
            slot += 1
            if crc(tier[slot * BLOCK : (slot + 1) * BLOCK]) != number(raw, at + 8, 4):
                h["is_whole"] = False
        entries.append((number(raw, at, 6), kind, slot, segment, number(raw, at + 8, 4)))
    return h, entries


def chunks(tier, s):
    segment, block, sequence = s["segment"], s["block"], s["sequence"]
    while True:
        found = chunk_at(tier, s, segment, block, sequence)
        if not found:
            found = chunk_at(tier, s, segment + 1, 0, sequence)
            if not found:
                return
            segment, block = segment + 1, 0
        yield found
        block += 1 + found[0]["data"]
        sequence += 1


def read_log(tier, s):
    sequence, tail, clean, entries = s["sequence"], s["tail"], s["clean"], []
    order = (s["order_segment"], s["order_block"])
    found = list(chunks(tier, s))
    durable = max([s["end"]] + [h["durable"] for h, _ in found])
    for h, more in found:
        if not h["is_whole"] and sequence >= durable:
            break
        entries += more
        tail, clean = max(tail, h["tail"]), max(clean, h["clean"])
        order = max(order, (h["order_segment"], h["order_block"]))
        sequence += 1
    if sequence < s["end"]:
        sys.exit("the log ends too early")
    return tail, clean, order, entries


def checkpoint(tier, s):
    at = (2 + s["generation"] % 2 * s["checkpoint_blocks"]) * BLOCK
    raw = tier[at : at + 16 * s["entries"]]
    if crc(raw) != s["entries_crc"]:
        sys.exit("the checkpoint is damaged")
    for i in range(0, len(raw), 16):
        slot = number(raw, i + 8, 4)
        place, count = (slot - s["first_block"]) // s["segment_blocks"], s["segment_count"]
        segment = s["tail"] + (place - s["tail"]) % count
        yield number(raw, i, 6), 1 if raw[i + 7] & 1 else 2, slot, segment, number(raw, i + 12, 4)


def read_tier(tier):
    s = newer_superblock(tier)
    if s["released"]:
        return {}
    tail, clean, order, entries = read_log(tier, s)
    places = {}
    for block, kind, slot, segment, value in list(checkpoint(tier, s)) + entries:
        if kind == 3 or segment < tail:
            places.pop(block, None)
        else:
            at = (segment, (slot - s["first_block"]) % s["segment_blocks"])
            places[block] = (slot, kind == 1 and segment >= clean and at >= order, value)
    return places


def main():
    with open(sys.argv[1], "rb") as file:
        tier = file.read()
    places = read_tier(tier)
    for block in sorted(places):
        slot, is_dirty, value = places[block]
        is_whole_block = crc(tier[slot * BLOCK : (slot + 1) * BLOCK]) == value
        print("block", block, "slot", slot, "dirty" if is_dirty else "clean", *[] if is_whole_block else ["damaged"])
    if len(sys.argv) > 2:
        with open(sys.argv[2], "rb") as file:
            disk = file.read()
        dirty = [b for b in places if places[b][1]]
        wrong = [b for b in places
                 if tier[places[b][0] * BLOCK : (places[b][0] + 1) * BLOCK] != disk[b * BLOCK : (b + 1) * BLOCK]]
        if wrong or not dirty:
            sys.exit(f"{len(dirty)} dirty blocks; wrong data in blocks {wrong}")


main()

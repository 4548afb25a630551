# SPDX-License-Identifier: BSD-3-Clause
"""A disk whose content tells at which flush it is: commit N writes its number into some blocks, which SEED and N choose, and flushes.

    cache-history.py commit URI SEED DONE    commits from the one after that in the file DONE on, until the server goes away; DONE has the
                                             number of the last that was acknowledged
    cache-history.py check IMAGE SEED [DONE] the image is the disk as it was at a flush, with any part of the commit that came next; with
                                             DONE it is not older than that.  Prints the newest commit of which something is there.
"""
import os
import random
import sys

BLOCK, BLOCKS, WRITES = 4096, 256, 4


def blocks_of(seed, commit):
    return random.Random(seed << 32 | commit).sample(range(BLOCKS), WRITES)


def read_done(path):
    with open(path, "rb") as file:
        return int(file.read() or 0)


def commit_all(uri, seed, path):
    import nbd

    handle = nbd.NBD()
    handle.connect_uri(uri)
    done, commit = os.open(path, os.O_RDWR), read_done(path)
    while True:
        commit += 1
        for block in blocks_of(seed, commit):
            handle.pwrite(commit.to_bytes(8, "little") * (BLOCK // 8), block * BLOCK)
        handle.flush()
        os.pwrite(done, b"%d" % commit, 0)


def check(path, seed, done):
    with open(path, "rb") as file:
        image = file.read()
    there = [int.from_bytes(image[b * BLOCK : b * BLOCK + 8], "little") for b in range(BLOCKS)]
    newest, least = max(there), [0] * BLOCKS
    for commit in range(1, max(newest - 1, done) + 1):
        for block in blocks_of(seed, commit):
            least[block] = commit
    print(newest)
    for block in range(BLOCKS):
        if there[block] < least[block]:
            sys.exit(f"commit {newest} is there, and block {block} has {there[block]}, not {least[block]} or later")


def main():
    action, target, seed, done = (sys.argv + [""])[1:5]
    if action == "check":
        check(target, int(seed), read_done(done) if done else 0)
        return
    try:
        commit_all(target, int(seed), done)
    except Exception as error:  # the server has gone
        print(error, file=sys.stderr)


main()

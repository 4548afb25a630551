#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# 512 different blocks of 64 KiB are written through a cache of 8 MiB, a fourth of the data, and read
# back; in every mode, with and without an SSD, and with two sizes.  A well-known cache filter loses
# most of them in write-back.
. "${top_srcdir:-.}/tests/functions.sh"
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
requires nbdsh
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
one_disk() {
    name=$1
    shift
    printf 'size: 32MiB\nbacking: { file: %s/%s.raw }\nfilters: [cache: {%s}]\n' "$work" "$name" "$*" | disk "$name"
    disks="${disks:-} $name"
}
for mode in write-back write-through write-around read-only bypass; do
    one_disk "ssd-$mode" "mode: $mode, ram: 512KiB, ssd: { tier: ssd0, size: 8MiB }"
done
one_disk ssd-small "ram: 64KiB, ssd: { tier: ssd0, size: 1MiB }"
one_disk ram-write-through "ram: 8MiB"
one_disk ram-lru "ram: 8MiB, policy: lru"
one_disk ram-arc "ram: 64KiB, policy: arc"
serve
for name in $disks; do
    nbdsh -u "$(uri "$name")" -c '
import hashlib
def block(i): return hashlib.sha256(b"%d" % i).digest() * 2048
for i in range(512): h.pwrite(block(i), i * 65536)
wrong = sum(h.pread(65536, i * 65536) != block(i) for i in range(512))
h.flush()
wrong += sum(h.pread(65536, i * 65536) != block(i) for i in range(512))
print(wrong)
' >"$work/wrong"
    echo "$name: $(cat "$work/wrong") of 512 wrong"
    [ "$(cat "$work/wrong")" = 0 ] || fail "$name lost data"
done
stop TERM

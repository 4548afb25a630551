#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# 512 different blocks of 64 KiB, 32 MiB, are written through a smaller cache and read back: at once, after a flush,
# and after kill -9; in every mode, with an SSD of SIZES (default "1 8") MiB and with RAM alone under each policy.
# A well-known cache filter loses most of them in write-back.
. "${top_srcdir:-.}/tests/functions.sh"
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
requires nbdsh
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 1GiB } }"
one_disk() {
    name=$1
    shift
    printf 'size: 32MiB\nbacking: { file: %s/%s.raw }\nfilters: [cache: {%s}]\n' "$work" "$name" "$*" | disk "$name"
    disks="${disks:-} $name"
}
for mode in write-back write-through write-around read-only bypass; do
    for size in ${SIZES:-1 8}; do
        one_disk "ssd-$size-$mode" "mode: $mode, ram: 256KiB, ssd: { tier: ssd0, size: ${size}MiB }"
    done
done
one_disk ram-write-through "ram: 8MiB"
one_disk ram-lru "ram: 8MiB, policy: lru"
one_disk ram-arc "ram: 64KiB, policy: arc"
serve
check='
import hashlib
def block(i): return hashlib.sha256(b"%s %d" % (name, i)).digest() * 2048
def wrong(): return sum(h.pread(65536, i * 65536) != block(i) for i in range(512))
'
for name in $disks; do
    nbdsh -u "$(uri "$name")" -c "name = b'$name'; $check" -c '
for i in range(512): h.pwrite(block(i), i * 65536)
before = wrong()
h.flush()
print(before + wrong())
' >"$work/wrong"
    echo "$name: $(cat "$work/wrong") of 512 wrong"
    [ "$(cat "$work/wrong")" = 0 ] || fail "$name lost data"
done
stop KILL
serve
for name in $disks; do
    nbdsh -u "$(uri "$name")" -c "name = b'$name'; $check" -c 'print(wrong())' >"$work/wrong"
    [ "$(cat "$work/wrong")" = 0 ] || fail "$name: after kill -9 $(cat "$work/wrong") of 512 are wrong"
done
echo "after kill -9 none is wrong"
stop TERM

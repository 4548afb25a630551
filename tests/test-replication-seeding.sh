#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A resync moves what differs and little else: a copied image that is taken for a first copy, an unchanged disk (--seed:
# less than 0.1 % of its bytes), a disk that is mostly zeros, a short outage, a kill in the middle.  All bytes that both
# sides send over the link are counted.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq nbdsh
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
grain=65536
size=$((32 << 20))

make_pair "link: { heartbeat: 100ms, timeout: 2s }"
common="peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
replicated_disk copied 5f000000-0000-4000-8000-000000000001 32MiB "$common"
replicated_disk sparse 5f000000-0000-4000-8000-000000000002 32MiB "$common"

# copied: random bytes with holes, and a copy in which grains 20, 100 and 101 differ.  sparse: 2 grains of data.
$python - "$(image gw-a copied)" "$(image gw-b copied)" "$(image gw-a sparse)" $size <<'END' || fail "no images"
import random, sys
here, there, sparse, size = *sys.argv[1:4], int(sys.argv[4])
data = bytearray(random.Random(5).randbytes(size))
for hole in range(0, size, 1 << 22):
    data[hole:hole + (1 << 20)] = bytes(1 << 20)
open(here, "wb").write(data)
for at in (20 * 65536 + 7, 101 * 65536 - 1, 101 * 65536):
    data[at] ^= 255
open(there, "wb").write(data)
data = bytearray(size)
data[5 * 65536] = data[300 * 65536] = 1
open(sparse, "wb").write(data)
END

sent_by() { on "$1" status --json | jq ".disks[] | select(.name == \"$2\") | .filters[0].counters.sent_bytes"; }
moved() { echo $(($(sent_by gw-a "$1") + $(sent_by gw-b "$1"))); }
# costs DISK DATA-BYTES WHAT: since $before at most the data and 0.1 % of the disk went over the link.
costs() {
    cost=$(($(moved "$1") - before))
    echo "$3: $cost bytes moved, $2 of them data; the rest is $(((cost - $2) * 100000 / size)) / 100000 of the disk"
    [ $cost -ge "$2" ] || fail "$3: $cost bytes were moved, less than differs"
    [ $((cost - $2)) -lt $((size / 1000)) ] || fail "$3: $cost bytes were moved for $2 that differ"
}
is_whole() { is_told gw-a "$1" link streaming && are_equal "$1"; }

# --- the first connection ---
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
for disk in copied sparse; do
    before=$(moved $disk)
    on gw-a replication promote $disk --force >/dev/null || fail "$disk is not promoted"
    within 30 is_whole $disk || fail "$disk is not the same on both sides"
    case $disk in copied) costs $disk $((3 * grain)) "first copy onto a copied image" ;; esac
    case $disk in sparse) costs $disk $((2 * grain)) "first copy of zeros and 2 grains" ;; esac
done

# --- nothing has changed ---
before=$(moved copied)
on gw-a resync copied --seed >"$work/said" || fail "no resync"
grep -q "^32 MiB might have differed: 32 MiB were the same, " "$work/said" || fail "it says: $(cat "$work/said")"
costs copied 0 "resync of an unchanged disk"
! on gw-b replication resync copied --seed >"$work/said" 2>&1 || fail "a secondary sends"

# --- a grain that rots is mended by it ---
$python -c '
import sys
with open(sys.argv[1], "r+b") as image:
    image.seek(int(sys.argv[2]))
    byte = image.read(1)[0]
    image.seek(int(sys.argv[2]))
    image.write(bytes([byte ^ 1]))' "$(image gw-b copied)" $((90 * grain))
before=$(moved copied)
on gw-a resync copied --seed --json >"$work/said" || fail "no resync"
[ $(($(jq .batch_bytes "$work/said") - $(jq .batch_same_bytes "$work/said"))) = $grain ] || fail "$(cat "$work/said")"
within 10 is_whole copied || fail "it is not mended"
costs copied $grain "resync of a disk of which one grain has changed"

# --- a short outage: 4 grains are written, 2 of them with what they held ---
kill -STOP "$(cat "$work/gw-b/pid")"
within 20 is_told gw-a copied alone 1 || fail "it is not alone"
nbdsh -u "$(address_at gw-a copied)" -c "
import os
for grain in 20, 210:
    h.pwrite(h.pread(65536, grain * 65536), grain * 65536)
for grain in 40, 41:
    h.pwrite(os.urandom(65536), grain * 65536)
h.flush()" || fail "no writes alone"
kill -CONT "$(cat "$work/gw-b/pid")"
within 10 is_told gw-b copied role secondary || fail "it does not answer"
within 30 is_whole copied || fail "not the same after the outage"
told gw-a copied 'batch_bytes, .batch_same_bytes, .batch_sent_bytes' | tr '\n' ' ' >"$work/batch"
read -r taken same sent <"$work/batch"
echo "reconnect after 4 grains were written, 2 of them anew: of $taken bytes that might have differed $sent were sent"
[ $((taken - same)) = $((2 * grain)) ] || fail "$taken bytes were taken for different, $same are the same"
[ "$sent" -lt $((2 * grain + size / 1000)) ] || fail "$sent bytes were sent"

# --- everything, asked for; a kill in the middle of a resync ---
on gw-a resync copied --full >"$work/said" || fail "no full resync"
grep -q ": 0 bytes were the same, \|: 0 were the same, " "$work/said" || fail "--full compares: $(cat "$work/said")"
for victim in gw-b gw-a; do
    on gw-a resync copied --seed --no-wait || fail "no resync"
    pair_kill $victim
    pair_serve $victim
    within 30 is_whole copied || fail "not the same after $victim was killed amid a resync"
    [ "$(told gw-b copied data)" = consistent ] || fail "the secondary has no whole copy"
done
for name in gw-a gw-b; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done

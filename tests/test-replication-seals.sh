#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The losing side of a split brain is sealed before it is overwritten: refused without a change when there is no room;
# else the seal, exported read-only by a policy as the manual shows, is the file system that only that side had.  A side
# that was deposed keeps no seal when it turns out that both have the same.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq nbdcopy mkfs.ext4 e2fsck debugfs

make_pair "link: { heartbeat: 100ms, timeout: 2s }"
replicated_disk vm 5e000000-0000-4000-8000-000000000001 16MiB "peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
state=$work/gw-a/state/disks/vm/filters/replication

# image_of TEXT: a file system in $work/TEXT.img whose file "kept" says TEXT
image_of() {
    mkdir "$work/$1" && echo "$1" >"$work/$1/kept" && head -c 3000000 /dev/urandom >"$work/$1/bulk"
    mkfs.ext4 -q -d "$work/$1" "$work/$1.img" 16M >"$work/said" 2>&1 || fail "no file system: $(cat "$work/said")"
}
# A promotion has been decided when the verb returns; the gateway lets clients in a moment later.
put() { within 20 nbdinfo --size "$(address_at "$1" vm)" >/dev/null 2>&1; nbdcopy --flush "$work/$2.img" "$(address_at "$1" vm)" || fail "$2 cannot be written at $1"; }
is_whole() { is_told gw-a vm link "$1" && is_told gw-b vm link "$2" && are_equal vm; }
seals() { on gw-a replication seals vm --json | jq .seals; }
has_seals() { [ "$(seals)" = "$1" ]; }
image_of common
image_of lost
image_of won

pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
on gw-a replication promote vm --force >/dev/null || fail "no promotion"
within 20 is_told gw-a vm link streaming || fail "not replicated"

# --- both were primary: gw-b by force, while gw-a had gone on alone ---
# part WHOLE: until gw-a is to be given up
part() {
    pair_kill gw-b
    within 20 is_told gw-a vm alone 1 || fail "gw-a is not alone"
    put gw-a lost
    pair_kill gw-a
    pair_serve gw-b
    on gw-b replication promote vm --force >/dev/null || fail "gw-b is not promoted"
    put gw-b won
}
put gw-a common
part
# A limit on the length of files stands for a full file system.
trap '' XFSZ
ulimit -S -f 8192
pair_serve gw-a
ulimit -S -f unlimited
trap - XFSZ
within 20 is_told gw-a vm split 1 || fail "no split brain is seen"
within 20 is_told gw-a vm role secondary || fail "the older primary serves on"
cp "$(image gw-a vm)" "$work/before"
! on gw-a replication discard vm --whole >"$work/said" 2>&1 || fail "given up without room for a seal"
grep -q "16384 KiB that only this side has cannot be sealed: File too large" "$work/said" ||
    fail "no reason: $(cat "$work/said")"
cmp -s "$(image gw-a vm)" "$work/before" || fail "something was overwritten"
is_told gw-a vm split 1 || fail "the split brain is forgotten"
[ "$(seals)" = 0 ] || fail "a seal that is none"

# --- with room ---
pair_kill gw-a
pair_serve gw-a
within 20 is_told gw-a vm split 1 || fail "no split brain is seen after a restart"
on gw-a replication discard vm --whole >"$work/said" || fail "not given up: $(cat "$work/said")"
within 20 is_whole receiving streaming || fail "not healed"
cmp -s "$(image gw-b vm)" "$work/won.img" || fail "the winner has changed"
[ "$(seals)" = 1 ] || fail "no seal"
on gw-a replication seals vm
on gw-a replication seals vm | grep -q "seal 0: 16384 KiB of epoch .* given up after a split brain.*/seal-0.raw" ||
    fail "it is not told"

# --- read as the manual shows ---
cat >"$work/gw-a/etc/disks.d/vm-lost.yaml" <<END
backing: { file: $state/seal-0.raw }
read_only: true
END
on gw-a reload >/dev/null || fail "no reload"
nbdcopy "$(address_at gw-a vm-lost)" "$work/read.img" || fail "the seal cannot be read"
cmp "$work/read.img" "$work/lost.img" || fail "the seal is not what was lost"
e2fsck -fn "$work/read.img" >"$work/said" 2>&1 || fail "no clean file system: $(cat "$work/said")"
[ "$(debugfs -R "cat /kept" "$work/read.img" 2>/dev/null)" = lost ] || fail "the file is not there"
rm "$work/gw-a/etc/disks.d/vm-lost.yaml"
on gw-a reload >/dev/null || fail "no reload"

# --- many ---
pair_kill gw-a
for n in $(seq 1 13); do
    cp "$state/seal-0" "$state/seal-$n" && cp --sparse=always "$state/seal-0.raw" "$state/seal-$n.raw"
done
pair_serve gw-a
within 20 is_whole receiving streaming || fail "does not follow with many seals"
tells_many() { on gw-a disk show vm | grep -q "nearly as many seals"; }
within 20 tells_many || fail "nobody is told that there are nearly as many as can be: $(on gw-a status --json)"
for n in $(seq 1 13); do
    on gw-a replication seals vm --drop "$n" >"$work/said" || fail "seal $n is not dropped: $(cat "$work/said")"
done
tells_many && fail "it is told when there is room again"

# --- dropped ---
on gw-a replication seals vm --drop 0 | grep -q "nothing is sealed" || fail "not dropped"
[ ! -e "$state/seal-0.raw" ] && [ ! -e "$state/seal-0" ] || fail "its files are still there"
! on gw-a replication seals vm --drop 0 >"$work/said" 2>&1 || fail "dropped twice"
grep -q 'there is no seal "0"' "$work/said" || fail "no reason: $(cat "$work/said")"

# --- deposed: the same on both sides, so nothing stays sealed ---
on gw-b replication handover vm >/dev/null || fail "no handover"
within 20 is_whole streaming receiving || fail "not healed"
put gw-a common
within 20 are_equal vm || fail "not replicated"
pair_kill gw-a
on gw-b replication promote vm --force >/dev/null || fail "gw-b is not promoted"
pair_serve gw-a
within 20 is_whole receiving streaming || fail "not healed after it was deposed"
within 20 has_seals 0 || fail "what is the same stays sealed: $(on gw-a replication seals vm)"
echo "a seal of 16 MiB, read back as it was; none is left of a side that was deposed"

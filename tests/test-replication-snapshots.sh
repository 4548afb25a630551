#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of the primary's disk is made at the peer too, under its name and of the same instant: byte for byte, under
# load, and where it is made at all also when the peer is killed amid it.  Where the peer cannot, has one of that name, or is
# not there, the primary has its own, status says that the peer has none and why, and replication goes on.  XFS on a loop
# device of the test's own.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq losetup mkfs.xfs

mkdir "$work/fs"
truncate -s 600M "$work/fs.img"
unmount() {
    for name in gw-a gw-b; do
        [ ! -f "$work/$name/pid" ] || kill -9 "$(cat "$work/$name/pid")" 2>/dev/null
    done
    wait 2>/dev/null
    umount "$work/fs" 2>/dev/null
}
trap 'status=$?; unmount; (exit $status); cleanup' EXIT
mkfs.xfs -q "$work/fs.img" || fail "mkfs.xfs"
if ! mount -o loop "$work/fs.img" "$work/fs" 2>"$work/err"; then
    echo "this machine gives no loop device: $(cat "$work/err")"
    exit 77
fi
mkdir "$work/fs/gw-a" "$work/fs/gw-b"

options="peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
make_pair "link: { heartbeat: 100ms, timeout: 2s }"
replicated_disk d 6c000000-0000-4000-8000-000000000001 16MiB "$options"
replicated_disk e 6c000000-0000-4000-8000-000000000002 1MiB "$options"
sed -i "s,file: $work/gw-a/,file: $work/fs/gw-a/," "$work/gw-a/etc/disks.d/"?.yaml
sed -i "s,file: $work/gw-b/,file: $work/fs/gw-b/," "$work/gw-b/etc/disks.d/d.yaml"
image() { echo "$work/fs/$1/$2.raw"; }
take() { on "$1" disk snapshot "$2" "$3" >"$work/said" 2>&1 || fail "no snapshot $3 of $2 at $1: $(cat "$work/said")"; }
is_settled() { told "$1" "$2" snapshot_peer | grep -qE "made|missed"; }
settled() { # GATEWAY DISK NAME made|missed [REASON]
    within 10 is_settled "$1" "$2" || fail "nothing is said of snapshot $3: $(on "$1" replication status "$2")"
    is_told "$1" "$2" snapshot "$3" || fail "not of $3: $(on "$1" replication status "$2")"
    is_told "$1" "$2" snapshot_peer "$4" || fail "snapshot $3: $(on "$1" replication status "$2")"
    told "$1" "$2" snapshot_reason | grep -q "${5:-}" || fail "snapshot $3: $(on "$1" replication status "$2")"
}
are_the_same() { cmp "$(image gw-a "$1").$2" "$(image gw-b "$1").$2" || fail "snapshot $2 is not the same on both sides"; }
is_streaming() { is_told "$1" d link streaming && is_told "$1" d dirty_bytes 0; }

pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
for disk in d e; do
    on gw-a replication promote $disk --force >/dev/null || fail "$disk is not promoted"
    within 20 is_told gw-a $disk link streaming || fail "no copy of $disk"
done
"$nbd_load" "$(address_at gw-a d)" --seconds 3600 --depth 8 --blocks 4096 >"$work/load" 2>&1 &
load=$!
children="$children $load"

# --- under load ---
for name in one two three; do
    take gw-a d $name
    settled gw-a d $name made
    are_the_same d $name
done
cmp -s "$(image gw-b d).one" "$(image gw-b d).two" && fail "two snapshots under load are the same"
is_told gw-a d link streaming || fail "a snapshot ended the replication"

# --- killed amid it: none, or the right one ---
made=0
for round in 1 2 3 4; do
    take gw-a d killed-$round
    pair_kill gw-b
    pair_serve gw-b
    within 20 is_streaming gw-a || fail "not streaming: $(on gw-a replication status d)"
    [ ! -e "$(image gw-b d).killed-$round" ] || are_the_same d killed-$round
    [ ! -e "$(image gw-b d).killed-$round" ] || made=$((made + 1))
done
ls "$work/fs/gw-b" | grep -q '~new$' && take gw-a d after-all

# --- it cannot be had there ---
echo "somebody's" >"$(image gw-b d).taken"
take gw-a d taken
settled gw-a d taken missed "File exists"
[ "$(cat "$(image gw-b d).taken")" = "somebody's" ] || fail "a file of the snapshot's name was replaced"
take gw-a e alone
settled gw-a e alone missed "cannot copy a file in an instant"
grep -q 'no snapshot "alone" of the primary' "$work/gw-b/log" || fail "the peer does not say so"
is_told gw-a e link streaming || fail "a snapshot that the peer cannot make ended the replication"
kill -TERM $load || fail "the load has ended: $(cat "$work/load")"
wait $load || fail "the load met an error: $(cat "$work/load")"
within 20 are_equal d || fail "the images differ"

# --- nobody there; then the other one is primary ---
pair_kill gw-b
within 10 is_told gw-a d alone 1 || fail "gw-a is not alone"
take gw-a d lonely
settled gw-a d lonely missed "not connected or not up to date"
pair_serve gw-b
within 20 is_streaming gw-a || fail "not streaming"
on gw-a failover d --yes >/dev/null 2>"$work/said" || fail "no failover: $(cat "$work/said")"
take gw-b d back
settled gw-b d back made
are_the_same d back
for name in gw-a gw-b; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done
echo "$made of 4 snapshots were made by a peer that was killed as they were ordered"

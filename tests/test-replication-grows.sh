#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A replicated disk grows: refused while its gateway runs, done while it is stopped, the secondary's first.  Until both
# have grown nothing is replicated, and status says why.  What the backings had behind the old end, other bytes on each
# side, is the same on both afterwards, also when the primary is killed amid it.  The other side serves the new size.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq nbdinfo qemu-io
old=$(((2 << 30) - 4096)) # within a grain, and the bitmap needs another page for what comes
new=$(((2 << 30) + (2 << 20)))

make_pair "link: { heartbeat: 100ms, timeout: 2s }"
replicated_disk d 6a000000-0000-4000-8000-000000000001 $old "peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
for name in gw-a gw-b; do
    truncate -s $new "$(image $name d)"
    printf 'left by somebody at %s' $name | dd of="$(image $name d)" bs=1 seek=$((old + 512)) conv=notrunc status=none
    printf '%s' $name | dd of="$(image $name d)" bs=1 seek=$((new - 512)) conv=notrunc status=none
done
is_whole() { is_told gw-a d link streaming && are_equal d; }
is_streaming() { is_told gw-a d link streaming && is_told gw-a d dirty_bytes 0; }
size_at() { nbdinfo --size "$(address_at "$1" d)"; }
write_at() { qemu-io -f raw "$(address_at "$1" d)" -c "write -P $2 $3 4096" -c flush >/dev/null || fail "no write at $1"; }
grow() { on "$1" disk resize d $new >"$work/said" 2>&1 || fail "$1 does not grow: $(cat "$work/said")"; }

pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
on gw-a replication promote d --force >/dev/null || fail "not promoted"
within 60 is_streaming || fail "no copy: $(on gw-a replication status d)"
write_at gw-a 17 $((old - 4096))

# --- not while it runs ---
for name in gw-a gw-b; do
    ! on $name disk resize d $new >"$work/said" 2>&1 || fail "$name grew while it was running"
    grep -q "cannot be resized while its gateway runs" "$work/said" || fail "$name says: $(cat "$work/said")"
    grep -q "^size: $old$" "$work/$name/etc/disks.d/d.yaml" || fail "$name: the policy was changed"
done
is_told gw-a d link streaming || fail "a refused resize ended the replication"

# --- the secondary, then the primary ---
pair_kill gw-b TERM
grow gw-b
pair_serve gw-b
differs() { on gw-a replication status d | grep -q "different sizes: the smaller one is to grow"; }
within 10 differs || fail "status does not say that sizes differ: $(on gw-a replication status d)"
within 10 is_told gw-a d alone 1 || fail "the primary does not go on alone"
write_at gw-a 18 $((1 << 20))
[ "$(size_at gw-a)" = $old ] || fail "the primary has another size already"
pair_kill gw-a
grow gw-a
for round in 1 2 3; do # killed as soon as it answers, with the new part copied or not
    pair_serve gw-a
    [ $round = 3 ] || pair_kill gw-a
done
within 60 is_whole || fail "both sides differ: $(cmp "$(image gw-a d)" "$(image gw-b d)"), $(on gw-a replication status d)"
grep -q "left by somebody at gw-a" "$(image gw-b d)" || fail "the primary's bytes are not on the other side"
[ "$(size_at gw-a)" = $new ] || fail "the primary serves $(size_at gw-a) bytes"
write_at gw-a 19 $((new - 4096))

# --- the other one has the size ---
on gw-a failover d --yes >/dev/null 2>"$work/said" || fail "no failover: $(cat "$work/said")"
[ "$(size_at gw-b)" = $new ] || fail "gw-b serves $(size_at gw-b) bytes"
qemu-io -f raw "$(address_at gw-b d)" -c "read -P 19 $((new - 4096)) 4096" -c "read -P 18 1M 4096" -c "read -P 17 $((old - 4096)) 4096" |
    grep -c "Pattern verification failed" | grep -qx 0 || fail "the data is not there"
write_at gw-b 20 $((new - 8192))
within 20 are_equal d || fail "they are not equal after the failover"
for name in gw-b gw-a; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done

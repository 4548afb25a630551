#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Whoever has a peer's key and has captured what it said cannot bring an older instant back: the frames said again, the same
# with an earlier epoch, and those of a primary that knows nothing of the present one are refused by a real gateway, with one
# line each, and nothing on its disk has changed: not the image, not the journal, no state.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq qemu-io
uuid=6d000000-0000-4000-8000-000000000001
make_pair "link: { heartbeat: 500ms, timeout: 20s }"
replicated_disk d $uuid 4MiB "peer_timeout: 300ms, peer_wait: 1s, journal: { size: 8MiB },"
write_at() { qemu-io -f raw "$(address_at "$1" d)" -c "write -P $2 $3 64k" -c flush >/dev/null || fail "no write at $1"; }
is_streaming() { is_told "$1" d link streaming && is_told "$1" d dirty_bytes 0; }
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
on gw-a replication promote d --force >/dev/null || fail "not promoted"
within 20 is_streaming gw-a || fail "no copy"

# --- three epochs; the last thing that was written is what must stay ---
primary=gw-a
for round in 1 2; do
    write_at $primary $round 64k
    on $primary failover d --yes >/dev/null 2>"$work/said" || fail "no failover: $(cat "$work/said")"
    primary=$(other_half $primary)
    within 20 is_streaming $primary || fail "not streaming"
done
[ $primary = gw-a ] || fail "gw-a is not the primary"
for pattern in 11 12 13; do write_at gw-a $pattern 64k; done
within 10 are_equal d || fail "not replicated"
pair_kill gw-a
is_quiet() { is_told gw-b d link down && is_told gw-b d journal_bytes 0; }
within 30 is_quiet || fail "gw-b is not at rest: $(on gw-b replication status d)"

# Everything that gw-b has of this disk, but for the time of a file.
hashes() { (cd "$work/gw-b" && find state d.raw -type f ! -name lock -exec sha256sum {} + | sort -k 2); }
mkdir "$work/captured"
cp "$work/gw-b/state/disks/d/filters/replication/super" "$work/gw-b/state/disks/d/filters/replication/journal" "$work/captured"
hashes >"$work/before"
[ "$(wc -l <"$work/before")" -ge 6 ] || fail "files are missing: $(cat "$work/before")"

replayed() { # WHAT LINE
    lines=$(wc -l <"$work/gw-b/log")
    timeout 60 $python "$top_srcdir/tests/replay-peer.py" "$work/captured" $uuid "$port_b" "$pki/ca.pem" "$pki/gw-a.pem" "$pki/gw-a.key" \
        gw-a gw-b replication/disk:d "$1" >"$work/said" 2>&1 || fail "$1: the captured frames cannot be sent: $(cat "$work/said")"
    grep -Eq "^([5-9]|[1-9][0-9]+) captured" "$work/said" || fail "$1: nothing was captured: $(cat "$work/said")"
    within 30 is_told gw-b d link down || fail "$1: gw-b holds the connection"
    [ "$(tail -n +$((lines + 1)) "$work/gw-b/log" | grep -c "$2")" = 1 ] ||
        fail "$1: not one line \"$2\": $(tail -n +$((lines + 1)) "$work/gw-b/log")"
    hashes >"$work/after"
    cmp -s "$work/before" "$work/after" || fail "$1: something has changed: $(diff "$work/before" "$work/after"; cat "$work/said")"
}
replayed stream "left out: a stream that does not begin with what it was asked for"
grep -q READY "$work/said" || fail "gw-b would not have taken anything: $(cat "$work/said")"
replayed epoch "the link is given up: a frame of another epoch"
grep -q "FAIL a frame of another epoch" "$work/said" || fail "it is not refused: $(cat "$work/said")"
replayed lineage "they step down: the primary was succeeded by the other side"

# --- and the true one is taken ---
pair_serve gw-a
within 20 is_streaming gw-a || fail "not streaming: $(on gw-a replication status d)"
within 10 are_equal d || fail "the images differ"
write_at gw-a 14 64k
within 10 are_equal d || fail "not replicated"
for name in gw-a gw-b; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A replicated disk grows while it serves: `disk resize` and a reload with a larger size:, under load; the follower's disk
# first, also where its policy says less, and over restarts.  Without the peer, or where its disk cannot grow, it is
# refused with the reason and nothing changes.  Killed on either side at any moment, both come to the same size and the
# same bytes, also those that the backings had behind the old end.  Whoever takes over right after serves the new size.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq nbdinfo qemu-io
mib=1048576
old=$((64 * mib - 4096)) # within a grain
size=$old

make_pair "link: { heartbeat: 100ms, timeout: 2s }"
replicated_disk d 6a000000-0000-4000-8000-000000000001 $old "peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"

is_streaming() { is_told "$primary" d link streaming && is_told "$primary" d dirty_bytes 0; }
is_whole() { is_told "$primary" d link streaming && has_size gw-a && has_size gw-b && are_equal d; }
size_at() { nbdinfo --size "$(address_at "$1" d)"; }
has_size() { [ "$(stat -c %s "$(image "$1" d)")" = $size ]; }
policy_says() { grep -q "^size: $2$" "$work/$1/etc/disks.d/d.yaml"; }
write_at() { qemu-io -f raw "$(address_at "$1" d)" -c "write -P $2 $3 4096" -c flush >/dev/null || fail "no write at $1"; }
grow_to() { on "$primary" disk resize d "$1" >"$work/said" 2>&1; }
refused() { # SENTENCE
    ! grow_to $((size + mib)) || fail "$primary grew"
    grep -q "$1" "$work/said" || fail "$primary says: $(cat "$work/said")"
    policy_says "$primary" $size || fail "$primary: the policy was changed"
    { [ "$(size_at "$primary")" = $size ] && has_size gw-a && has_size gw-b; } || fail "a refused resize has changed a disk"
}
load_begins() {
    "$nbd_load" "$(address_at "$primary" d)" --seconds 3600 --depth 8 --blocks 8192 >"$work/load" 2>&1 &
    load=$!
    children="$children $load"
}
load_ends() {
    kill -TERM "$load" || fail "the load has ended: $(cat "$work/load")"
    wait "$load" || fail "the load met an error: $(cat "$work/load")"
}

primary=gw-a other=gw-b
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
on gw-a replication promote d --force >/dev/null || fail "not promoted"
within 60 is_streaming || fail "no copy: $(on gw-a replication status d)"
write_at gw-a 17 $((old - 4096))

# --- under load: by the command, by a reload ---
load_begins
for round in 1 2 3; do
    size=$((size + mib))
    if [ $round = 2 ]; then
        sed -i "s/^size: .*/size: $size/" "$work/gw-a/etc/disks.d/d.yaml"
        on gw-a reload >"$work/said" 2>&1 || fail "not reloaded: $(cat "$work/said")"
    else
        grow_to $size || fail "it does not grow: $(cat "$work/said")"
    fi
    [ "$(size_at gw-a)" = $size ] || fail "gw-a serves $(size_at gw-a) bytes"
    has_size gw-b || fail "the follower has $(stat -c %s "$(image gw-b d)") bytes"
    is_told gw-a d link streaming || fail "the growth ended the replication: $(on gw-a replication status d)"
    write_at gw-a $((17 + round)) $((size - 4096))
done
load_ends
[ "$(told gw-a d batches)" = 1 ] || fail "two files grew, and a batch was made of it"
policy_says gw-b $old || fail "somebody has written into gw-b's policy"
within 20 is_whole || fail "they are not equal after they grew"
! on gw-b disk resize d $((size + mib)) >"$work/said" 2>&1 || fail "the follower grew by itself"
grep -q "this side follows" "$work/said" || fail "gw-b says: $(cat "$work/said")"

# --- its policy says less when it starts again ---
pair_kill gw-b
pair_serve gw-b
within 20 is_streaming || fail "not streaming: $(on gw-a replication status d)"
grep -q "it has grown to $size bytes, with its peer" "$work/gw-b/log" || fail "gw-b does not say that its policy is behind"

# --- nobody there: refused ---
pair_kill gw-b
within 10 is_told gw-a d link down || fail "gw-a has not noticed"
refused "the peer is not connected or not up to date"

# --- it cannot grow there: refused, and the reason is said here ---
pair_serve_limited() {
    (
        trap '' XFSZ
        ulimit -f $((size / 1024))
        exec "$sluice_program" serve --config "$work/$1/etc" >>"$work/$1/log" 2>&1
    ) &
    echo $! >"$work/$1/pid"
    children="$children $!"
    within 10 half_is_answering "$1" || fail "$1 did not come up"
}
# shellcheck disable=SC3045
pair_serve_limited gw-b
within 20 is_streaming || fail "not streaming: $(on gw-a replication status d)"
refused "the peer's disk does not grow: .*File too large"
is_told gw-a d link streaming || fail "a refused resize ended the replication"
pair_kill gw-b
pair_serve gw-b
within 20 is_streaming || fail "not streaming: $(on gw-a replication status d)"

# --- killed amid it, on either side ---
may_grow() { grow_to $size; }
for round in 1 2 3 4 5 6; do
    case $((round % 2)) in 0) victim=$primary ;; *) victim=$other ;; esac
    size=$((size + mib))
    (may_grow) &
    growing=$!
    sleep 0.0$((round * 13 % 7)) # some get there, some do not
    pair_kill $victim
    wait $growing
    pair_serve $victim
    within 20 is_streaming || fail "not streaming: $(on "$primary" replication status d)"
    policy_says "$primary" $size || grow_to $size || fail "round $round: it does not grow: $(cat "$work/said")"
    within 20 is_whole || fail "round $round: they are not the same"
    [ "$(size_at "$primary")" = $size ] || fail "round $round: $primary serves $(size_at "$primary") bytes"
done

# --- failover right after ---
size=$((size + mib))
grow_to $size || fail "it does not grow: $(cat "$work/said")"
write_at gw-a 29 $((size - 4096))
pair_kill gw-a
on gw-b replication promote d --force >/dev/null || fail "not promoted"
primary=gw-b other=gw-a
[ "$(size_at gw-b)" = $size ] || fail "gw-b serves $(size_at gw-b) bytes"
qemu-io -r -f raw "$(address_at gw-b d)" -c "read -P 29 $((size - 4096)) 4096" -c "read -P 17 $((old - 4096)) 4096" |
    grep -q "verification failed" && fail "the data is not there"
pair_serve gw-a
within 20 is_whole || fail "they are not equal after the failover: $(on gw-b replication status d)"
size=$((size + mib)) # its policy is still that of the beginning
grow_to $size || fail "it does not grow at gw-b: $(cat "$work/said")"
within 20 is_whole || fail "they are not equal"

# --- while they are stopped: the primary's first, and with what the backings had there; the other follows ---
pair_kill gw-a TERM
pair_kill gw-b TERM
was=$size
size=$((size + 4 * mib))
truncate -s $((size - 2 * mib)) "$(image gw-a d)"
truncate -s $size "$(image gw-b d)"
for name in gw-a gw-b; do
    printf 'left by somebody at %s' $name | dd of="$(image $name d)" bs=1 seek=$((was + 512)) conv=notrunc status=none
done
grow_to $size || fail "it does not grow while it is stopped: $(cat "$work/said")"
pair_serve gw-a
pair_serve gw-b
within 30 is_whole || fail "both sides differ: $(cmp "$(image gw-a d)" "$(image gw-b d)"), $(on gw-b replication status d)"
grep -q "left by somebody at gw-b" "$(image gw-a d)" || fail "the primary's bytes are not on the other side"

# --- and while they serve: what somebody has made room for there is compared; the bitmap needs another page ---
truncate -s $((size + 2 * mib)) "$(image gw-a d)"
printf 'left by somebody' | dd of="$(image gw-a d)" bs=1 seek=$((size + mib)) conv=notrunc status=none
size=$((2050 * mib))
grow_to $size || fail "it does not grow: $(cat "$work/said")"
within 20 is_whole || fail "what lay behind the old end differs"
on gw-b failover d --yes >/dev/null 2>"$work/said" || fail "no failover: $(cat "$work/said")"
primary=gw-a other=gw-b
[ "$(size_at gw-a)" = $size ] || fail "gw-a serves $(size_at gw-a) bytes"
write_at gw-a 30 $((size - 8192))
within 20 is_whole || fail "they are not equal after the failover"
for name in gw-a gw-b; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Everything that may befall a disk, of one disk and under one load that never ends: a guest's driver that reconnects,
# behind an address that moves between two gateways.  The chain is qos, replication (sync) and a write-back cache on
# both sides; ROUNDS (10) things happen by SEED (1614, which begins with ten different ones): filters attached, reordered
# and detached by reloads, the cache's mode changed, the disk grown, planned failover, kill -9 of either side with and
# without promotion, both killed, a prepared event, a verification amid the writes.  The load must not see an error or a
# wrong byte, in the end both sides serve the same, and after the first copy each could have taken over at any time.
. "${top_srcdir:-.}/tests/functions.sh" || exit 1
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq nbdcopy nbdinfo
: "${ROUNDS:=10}" "${SEED:=1614}"
mib=1048576
size=$((12 * mib))
primary=gw-a round=0 thing="the beginning"
declare -A chain mode

random=$SEED
below() {
    random=$(((random * 1103515245 + 12345) % 2147483648))
    number=$((random / 65536 % $1))
}
fail_here() {
    for name in gw-a gw-b; do
        on $name replication status d | head -n 3
        tail -n 15 "$work/$name/log"
    done
    fail "round $round, SEED $SEED, $thing: $1"
}

# --- the disk ---
write_policy() { # GATEWAY
    mkdir -p "$work/$1/ssd"
    cat >"$work/$1/etc/disks.d/d.yaml" <<END
size: $size
uuid: 1f000000-0000-4000-8000-00000000000a
backing: { file: $work/$1/d.raw }
filters:
${chain[$1]}  - replication: { peer: $(other_half "$1"), mode: sync, ack: journaled, on_peer_loss: hold, peer_timeout: 300ms, peer_wait: 20s, journal: { size: 16MiB } }
  - cache: { mode: ${mode[$1]}, ram: 2MiB, ssd: { path: $work/$1/ssd/d, size: 8MiB }, destage: { after: 200ms } }
END
}
chains=("" "  - qos: { iops: 50000 }
" "  - passthru: {}
" "  - passthru: {}
  - delay: { op: all, time: 1ms, spread: 3ms }
" "  - delay: { op: all, time: 1ms, spread: 3ms }
  - passthru: {}
" "  - qos: { iops: 20000, burst: 5s }
  - reorder: { depth: 4 }
")
reload() {
    write_policy "$1"
    on "$1" reload >"$work/said" 2>&1 || fail_here "$1 does not reload: $(cat "$work/said")"
}
is_streaming() {
    is_told "$primary" d link streaming && is_told "$secondary" d link receiving
}
await_streaming() {
    within 30 is_streaming || fail_here "not streaming"
}
# The address that moves.
point() {
    ln -sfn "$work/$1/nbd.sock" "$work/current.new" && mv -T "$work/current.new" "$work/current"
    primary=$1
    secondary=$(other_half "$1")
}
promote_at() {
    on "$1" replication promote d --force >"$work/said" 2>&1 || fail_here "$1 is not promoted: $(cat "$work/said")"
    point "$1"
}

# --- what may happen ---
filters_change() {
    below 6
    chain[$primary]=${chains[$number]}
    reload "$primary"
}
filters_change_at_the_secondary() {
    below 6
    chain[$secondary]=${chains[$number]}
    reload "$secondary"
}
the_mode_changes() {
    case ${mode[$primary]} in write-back) mode[$primary]=write-through ;; *) mode[$primary]=write-back ;; esac
    reload "$primary"
}
it_grows() {
    size=$((size + mib))
    on "$primary" disk resize d $size >"$work/said" 2>&1 || fail_here "it does not grow: $(cat "$work/said")"
    write_policy "$secondary"
}
planned_failover() {
    on "$secondary" failover d --yes >"$work/said" 2>&1 || fail_here "no failover: $(cat "$work/said")"
    point "$secondary"
}
the_secondary_is_killed() {
    pair_kill "$secondary"
    pair_serve "$secondary"
}
the_primary_is_killed() {
    pair_kill "$primary"
    pair_serve "$primary"
}
both_are_killed() {
    pair_kill "$primary"
    pair_kill "$secondary"
    pair_serve "$primary"
    pair_serve "$secondary"
}
forced_failover() {
    pair_kill "$primary"
    promote_at "$secondary"
    pair_serve "$secondary"
}
a_snapshot_by_others() {
    on "$primary" disk event d snapshot --prepare --name s$round >"$work/said" 2>&1 || fail_here "not prepared: $(cat "$work/said")"
    below 2
    if [ $number = 0 ]; then
        on "$primary" disk event d snapshot --commit --name s$round >"$work/said" 2>&1 || fail_here "no commit: $(cat "$work/said")"
    else
        on "$primary" disk event d snapshot --abort --name s$round >"$work/said" 2>&1 || fail_here "no abort: $(cat "$work/said")"
    fi
}
it_is_verified() {
    on "$primary" verify d >"$work/said" 2>&1 || fail_here "no verification: $(cat "$work/said")"
}
things=(filters_change filters_change_at_the_secondary the_mode_changes it_grows planned_failover the_secondary_is_killed
    the_primary_is_killed both_are_killed forced_failover a_snapshot_by_others it_is_verified)

# --- all of it ---
# A reload waits for the requests that are in, and one may be waiting for a peer that was just killed.
make_pair "link: { heartbeat: 200ms, timeout: 2s }
limits: { quiesce: 20s }"
for name in gw-a gw-b; do
    chain[$name]=${chains[0]} mode[$name]=write-back
    write_policy $name
    pair_serve $name
done
within 10 are_connected || fail "no connection"
promote_at gw-a
await_streaming
"$nbd_load" "nbd+unix:///d?socket=$work/current" --seconds 3600 --depth 16 --blocks 3072 --reconnect 60 --flush-every 50 \
    >"$work/load" 2>&1 &
load=$!
children="$children $load"
served() { on "$primary" disk show d --json 2>/dev/null | jq -e ".io.operations.write.requests > $1" >/dev/null; }
count_served() { on "$primary" disk show d --json 2>/dev/null | jq '[.io.operations[].requests] | add'; }
# Those counted when the thing was done are not all that will be.
moves() {
    served=$(count_served)
    within 30 has_moved
}
has_moved() { [ "$(count_served)" -gt $((served + 20)) ]; }
while [ $round -lt "$ROUNDS" ]; do
    round=$((round + 1))
    within 30 served 50 || fail_here "the load stands still"
    below ${#things[@]}
    thing=${things[$number]}
    began=${EPOCHREALTIME/./}
    $thing
    done_at=${EPOCHREALTIME/./}
    kill -0 $load 2>/dev/null || fail_here "the load has ended: $(cat "$work/load")"
    moves || fail_here "no request ends any more"
    moved_at=${EPOCHREALTIME/./}
    await_streaming
    streams_at=${EPOCHREALTIME/./}
    echo "$round: $thing: $(((done_at - began) / 1000)) ms, I/O after $(((moved_at - began) / 1000)) ms, streaming after $(((streams_at - began) / 1000)) ms"
done
thing="the end"
kill -TERM $load
wait $load || fail_here "the load met an error: $(cat "$work/load")"
cat "$work/load"
nbdcopy "nbd+unix:///d?socket=$work/current" "$work/here" || fail_here "it cannot be read"
planned_failover
nbdcopy "nbd+unix:///d?socket=$work/current" "$work/there" || fail_here "it cannot be read at the other side"
cmp "$work/here" "$work/there" || fail_here "both sides differ"
# After the first copy there is a moment neither of a crash nor of a batch at which the other side could not take over.
copies=$(cat "$work"/gw-?/log | grep -c "in the middle of a first copy")
[ "$copies" -le 1 ] || fail_here "$copies times one side could not have taken over"
for name in gw-a gw-b; do
    pair_kill $name TERM || fail_here "$name did not stop cleanly"
done

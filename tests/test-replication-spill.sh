#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The asynchronous mode's journal on SSD, between two gateways with a disk under a writer that stamps what it writes.
# RUNS (2) times, by SEED (1): the peer dies while the writer goes on, and what it lacks waits in order in a file; it
# comes back, and gets that, and no batch of blocks.  The primary is killed with records in the file: they are
# still there, go to the peer in order, and a batch brings the rest.  The primary is killed while the peer takes them:
# the peer, promoted, is a prefix of the history.  More than the file holds: the bitmap.  Both images are equal after
# each.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
. "$top_srcdir/tests/replication-fault-functions.sh"
requires jq
RUNS=${RUNS_OF_SPILL:-2}
# 20 MB/s, of which the file takes 25 s: a peer that comes back late on a slow machine does not find it full.
rate=5000
disks_hold='' disks_degrade='' disks_async=vm
blocks=2048
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
common="mode: async, peer_timeout: 300ms, peer_wait: 1s, ram: 1MiB, journal: { size: 64MiB },"
replicated_disk vm 4f000000-0000-4000-8000-000000000001 8MiB "$common spill: { size: 512MiB },"
make_states

is_spilled() {
    is_told "$primary" vm tier ssd && [ "$(told "$primary" vm spill_bytes)" -gt 100000 ]
}
is_back() {
    is_told "$primary" vm tier ram
}
said() {
    grep -c "$2" "$work/$1/log"
}

await_file() {
    within 10 is_spilled || {
        on "$primary" replication status vm --json
        fail_of vm "what the lost peer lacks is not in the file"
    }
}

link_comes_back() {
    fault="the loss of the peer"
    start_writers
    batches=$(told "$primary" vm batches)
    end "$secondary"
    await_file
    [ "$(told "$primary" vm lag_bytes)" -gt 100000 ] || fail_of vm "status does not say how far the peer is behind"
    sleep_below 300
    begin "$secondary"
    sleep_below 300
    within 20 is_told "$primary" vm link streaming || fail_of vm "the peer is not brought up to date"
    end_writers
    within 20 is_back || fail_of vm "the file is not sent"
    are_all_equal
    [ "$(told "$primary" vm batches)" = "$batches" ] || fail_of vm "blocks were copied although the file had all of it"
}

primary_dies_with_a_file() {
    fault="the death of the primary with a file"
    start_writers
    end "$secondary"
    await_file
    lines=$(said "$primary" "wait in the journal for the peer")
    end "$primary"
    end_writers
    begin "$secondary"
    begin "$primary"
    [ "$(said "$primary" "wait in the journal for the peer")" -gt "$lines" ] || fail_of vm "the file was not found again"
    kept "$primary" restarted
    are_all_equal
}

primary_dies_while_it_sends() {
    fault="the death of the primary while it sends the file"
    start_writers
    end "$secondary"
    await_file
    begin "$secondary"
    sleep_below 900
    primary_is_killed
    secondary=$(other_half "$primary")
    # Both have written alone, perhaps: then one of them is given up.
    within 30 is_settled || fail_of vm "the sides do not meet"
    if is_told "$secondary" vm split 1; then
        make_room "$secondary" vm
        on "$secondary" replication discard vm >/dev/null || fail_of vm "it cannot be given up"
    fi
    are_all_equal
}
is_settled() {
    is_told "$secondary" vm split 1 || is_streaming vm
}

begin gw-a
begin gw-b
within 10 are_connected || fail "no connection"
primary=gw-a secondary=gw-b fault="the beginning" run=0
promote_all gw-a
are_all_equal
while [ $run -lt "$RUNS" ]; do
    run=$((run + 1))
    link_comes_back
    primary_dies_with_a_file
    primary_dies_while_it_sends
    echo "$run: $acknowledged acknowledged so far"
done

# --- more than it holds ---
fault="a file that is full"
pair_kill "$primary" TERM
pair_kill "$secondary" TERM
for name in gw-a gw-b; do
    sed -i 's/spill: { size: 512MiB }/spill: { size: 4MiB }/' "$work/$name/etc/disks.d/vm.yaml"
    find "$work/$name/state" -name spill -exec rm {} +
done
begin "$primary"
begin "$secondary"
within 20 is_streaming vm || fail_of vm "not streaming"
within 20 is_back || fail_of vm "not in memory again"
start_writers
end "$secondary"
within 20 is_told "$primary" vm tier bitmap || fail_of vm "a file that is full does not end in the bitmap"
[ "$(said "$primary" "the journal of what waits for its turn is full")" = 1 ] || fail_of vm "nobody is told"
begin "$secondary"
end_writers
kept "$primary" serving
are_all_equal
echo "$RUNS runs, $acknowledged writes acknowledged"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Two gateways and three disks between them, sync with hold, sync with degrade, async, each under a writer that
# stamps what it writes.  RUNS (10) faults by SEED (1): kill -9 of either, of both, of the link by SIGSTOP, of the
# peer and then of the lone primary; promotion and planned handover.  Each time: sync has lost no acknowledged
# write, but what a lone primary took with it; what was promoted is a prefix of the history; both images are the
# same in the end, with no hand laid on but by the verbs of the manual.  A failing SEED can be given again; FAULTS
# are those to choose from.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq
: "${RUNS:=10}" "${SEED:=1}"
: "${FAULTS:=secondary_is_killed primary_is_killed both_are_killed link_is_cut hand_over lone_primary_is_killed}"
disks="held alone async"
blocks=2048

make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
common="peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
replicated_disk held 1f000000-0000-4000-8000-000000000001 8MiB "on_peer_loss: hold, $common"
replicated_disk alone 1f000000-0000-4000-8000-000000000002 8MiB "on_peer_loss: degrade, $common"
replicated_disk async 1f000000-0000-4000-8000-000000000003 8MiB "mode: async, $common"
number=0
for disk in $disks; do
    number=$((number + 1))
    "$stamped" make "$work/$disk.state" --blocks $blocks --disk $number || fail "no state file"
done

# below N: the next number of the seed, below N, in $number
random=$SEED
below() {
    random=$(((random * 1103515245 + 12345) % 2147483648))
    number=$((random / 65536 % $1))
}
sleep_below() {
    below "$1"
    sleep "$(printf '0.%03d' "$number")"
}

# --- the writers ---
start_writers() {
    writers=
    for disk in $disks; do
        "$stamped" write "$(address_at "$primary" $disk)" "$work/$disk.state" --seconds 60 --depth 8 --flush-every 40 \
            >"$work/$disk.written" 2>"$work/$disk.errors" &
        writers="$writers $!"
    done
    children="$children $writers"
}
end_writers() {
    for writer in $writers; do
        kill -TERM "$writer" 2>/dev/null
        wait "$writer"
        case $? in 0) ;; *) cat "$work"/*.errors "$work"/*.written; fail "a writer met an error" ;; esac
    done
    writers=
    acknowledged=$((acknowledged + $(cat "$work"/*.written | jq -s 'map(.acked) | add')))
}
acknowledged=0

# --- what must hold ---
# check GATEWAY DISK...: none of their acknowledged writes is missing.  check_prefix: some may be, at the end.
check() {
    at=$1
    shift
    for disk; do
        "$stamped" check "$(image "$at" "$disk")" "$work/$disk.state" --whole --settle >"$work/checked" ||
            fail "run $run, SEED $SEED: $disk at $at after $fault: $(cat "$work/checked")"
    done
}
check_prefix() {
    at=$1
    shift
    for disk; do
        "$stamped" check "$(image "$at" "$disk")" "$work/$disk.state" --settle >"$work/checked" ||
            fail "run $run, SEED $SEED: $disk at $at after $fault: $(cat "$work/checked")"
        lost=$((lost + $(jq .missing_acked "$work/checked")))
    done
}
lost=0
is_healed() {
    is_told "$primary" "$1" link streaming && is_told "$(other_half "$primary")" "$1" link receiving && are_equal "$1"
}
heal() {
    for disk in $disks; do
        within 20 is_healed $disk || fail_of $disk "$disk is not healed after $fault"
    done
}
fail_of() {
    for name in gw-a gw-b; do
        on $name replication status "$1" | head -n 1
        grep "disk=$1" "$work/$name/log" | tail -n 20
    done
    fail "run $run, SEED $SEED: $2"
}
promote_all() {
    for disk in $disks; do
        on "$1" replication promote "$disk" --force >"$work/promoted" 2>&1 ||
            fail "run $run, SEED $SEED: $1 cannot be promoted after $fault: $(cat "$work/promoted")"
    done
}

# --- faults; each ends with the writers ended and checked, $primary set, and both gateways up ---
secondary_is_killed() {
    pair_kill "$secondary"
    sleep_below 900
    pair_serve "$secondary"
    sleep_below 900
    end_writers
    check "$primary" $disks
}

primary_is_killed() {
    pair_kill "$primary"
    end_writers
    promote_all "$secondary"
    check "$secondary" held alone
    check_prefix "$secondary" async
    pair_serve "$primary"
    primary=$secondary
}

both_are_killed() {
    below 2
    if [ "$number" -eq 0 ]; then
        pair_kill "$primary"
        pair_kill "$secondary"
    else
        pair_kill "$secondary"
        sleep_below 500
        pair_kill "$primary"
    fi
    end_writers
    below 2
    if [ "$number" -eq 0 ]; then
        pair_serve "$primary"
        pair_serve "$secondary"
    else
        pair_serve "$secondary"
        pair_serve "$primary"
    fi
    check "$primary" $disks
}

link_is_cut() {
    kill -STOP "$(cat "$work/$secondary/pid")"
    below 3
    sleep "$number.2"
    kill -CONT "$(cat "$work/$secondary/pid")"
    sleep_below 900
    end_writers
    check "$primary" $disks
}

# The lone primary takes with it what it acknowledged alone.
lone_primary_is_killed() {
    pair_kill "$secondary"
    for disk in alone async; do
        within 5 is_told "$primary" $disk alone 1 || fail "$disk is not alone at $primary"
    done
    sleep_below 300
    pair_kill "$primary"
    end_writers
    pair_serve "$secondary"
    promote_all "$secondary"
    check "$secondary" held
    check_prefix "$secondary" alone async
    pair_serve "$primary"
    for disk in alone async; do
        within 10 is_told "$primary" $disk split 1 || fail_of $disk "no split brain is seen"
        within 5 is_told "$primary" $disk role secondary || fail_of $disk "the older primary serves on"
        on "$primary" replication discard $disk >/dev/null || fail_of $disk "it cannot be given up"
    done
    primary=$secondary
}

hand_over() {
    end_writers
    for disk in $disks; do
        on "$primary" replication handover $disk >"$work/handed" 2>&1 ||
            fail "run $run, SEED $SEED: no handover of $disk: $(cat "$work/handed")"
    done
    check "$secondary" $disks
    primary=$secondary
}

pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
primary=gw-a run=0 fault="the beginning"
promote_all gw-a
heal
fault_count=$(echo "$FAULTS" | wc -w)
while [ $run -lt "$RUNS" ]; do
    run=$((run + 1))
    secondary=$(other_half "$primary")
    below "$fault_count"
    fault=$(echo "$FAULTS" | cut -d' ' -f$((number + 1)))
    start_writers
    sleep_below 700
    $fault
    heal
    echo "$run: $fault; $acknowledged acknowledged so far, $lost of them lost where they may be"
done
for name in gw-a gw-b; do
    pair_kill $name TERM || {
        tail -n 20 "$work/$name/log"
        fail "$name did not stop cleanly"
    }
done

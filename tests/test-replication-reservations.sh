#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Persistent reservations go with a replicated disk: who held it at the primary holds it at the peer, through the
# peer's portal and with the same keys, and others meet a conflict there: after kill -9 and a forced promotion, after a
# planned failover and back, and where the peer was away when they changed.  A preemption at the new primary is what
# counts when the old one is back.  The generation goes on.  What is not to outlive a restart (no APTPL) goes too.  With
# on_peer_loss: hold the answer waits for the peer.  A file that is damaged at the peer is replaced by what comes.  Where the
# peer has not applied what came before, its first answer is by the last reservation all the same; and what is changed there
# then is what counts after kill -9 amid that, although the journal that is read again has the older ones.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq qemu-io
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
add_portals
replicated_disk vm 1f000000-0000-4000-8000-000000000002 8MiB "on_peer_loss: degrade, peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
replicated_disk held 1f000000-0000-4000-8000-000000000003 8MiB "on_peer_loss: hold, journal: { size: 16MiB },"
replicated_disk slow 1f000000-0000-4000-8000-000000000004 8MiB "on_peer_loss: degrade, peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
sed -i 's/^filters: \[\(.*\)\]/filters: [\1, delay: { op: write, time: 1s, declared: true, at: backing }]/' "$work/gw-b/etc/disks.d/slow.yaml"
prefix=iqn.2024-01.org.sluice:1f000000-0000-4000-8000-00000000000
says() { # GATEWAY DISK INITIATOR ORDER...: its answers, one behind the other
    case $1 in gw-a) at=$iscsi_a ;; *) at=$iscsi_b ;; esac
    case $2 in vm) target=${prefix}2 ;; held) target=${prefix}3 ;; *) target=${prefix}4 ;; esac
    initiator=$3
    shift 3
    $python "$top_srcdir/tests/iscsi-reservations.py" "$at" $target "$initiator" "$@" 2>&1 | paste -sd, -
}
expect() { # ANSWERS GATEWAY DISK INITIATOR ORDER...
    wanted=$1
    shift
    answers=$(says "$@")
    [ "$answers" = "$wanted" ] || fail "$*: $answers, not $wanted"
}
will_say() {
    wanted=$1
    shift
    answers=$(says "$@")
    [ "$answers" = "$wanted" ]
}
eventually() {
    within 10 will_say "$@" || fail "$*: $answers"
}
is_streaming() {
    is_told "$1" vm link streaming
}
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
for disk in vm held slow; do
    on gw-a replication promote $disk --force >/dev/null || fail "no promotion"
    within 20 is_told gw-a $disk link streaming || fail "the pair does not follow"
done

# --- kill -9 and a forced promotion ---
expect "good,good,good" gw-a vm one aptpl "register a1" "reserve a1" write
expect "good,conflict" gw-a vm two "register b2" write
eventually "a1 b2,generation 2,a1 type 1" gw-b vm other keys held # in standby too
expect "good,02/04/0b,02/04/0b" gw-b vm one "ignore a1" "ignore c3" "reserve a1" # there is one state, and it is the primary's
pair_kill gw-a
on gw-b failover vm --force --to gw-b --yes >"$work/said" 2>&1 || fail "by force: $(cat "$work/said")"
expect "good,a1 type 1" gw-b vm one write held
expect "conflict,conflict" gw-b vm two write "reserve b2"
expect "conflict,conflict" gw-b vm stranger write "reserve c3"
expect "conflict" gw-b vm "one#2" write # the same initiator, another port of it
expect "a1 b2,generation 2" gw-b vm one keys

# --- the old primary gets what has changed meanwhile ---
expect "good,good" gw-b vm two "preempt b2 a1" write
expect "conflict" gw-b vm one write
pair_serve gw-a
within 20 is_streaming gw-b || fail "the old primary does not follow: $(on gw-b replication status vm)"
eventually "b2,generation 3,b2 type 1" gw-a vm other keys held
on gw-b failover vm --to gw-a --yes >"$work/said" 2>&1 || fail "failback: $(cat "$work/said")"
expect "good,b2 type 1,b2,generation 3" gw-a vm two write held keys
expect "conflict" gw-a vm one write

# --- planned, there and back; without APTPL ---
expect "good,good" gw-a vm two "release b2" "register b3 b2"
expect "good,good,good" gw-a vm one "register a4" "reserve a4 5" write
on gw-a failover vm --to gw-b --yes >"$work/said" 2>&1 || fail "failover: $(cat "$work/said")"
expect "a4 type 5,good,good" gw-b vm one held write "register a5 a4"
expect "good" gw-b vm two write
expect "conflict" gw-b vm stranger write
within 20 is_streaming gw-b || fail "not streaming"
on gw-b failover vm --to gw-a --yes >"$work/said" 2>&1 || fail "failover: $(cat "$work/said")"
expect "a5 type 5,a5 b3,generation 6" gw-a vm one held keys

# --- changed while the peer was away, and the side that follows is started again without having met its primary ---
within 20 is_streaming gw-a || fail "not streaming"
pair_kill gw-b
within 10 is_told gw-a vm alone 1 || fail "gw-a is not alone"
expect "good,good,good" gw-a vm one "release a5 5" "reserve a5 3" write
pair_serve gw-b
within 20 is_streaming gw-a || fail "not streaming"
pair_kill gw-a
pair_kill gw-b
pair_serve gw-b
eventually "a5 b3,generation 6,a5 type 3" gw-b vm other keys held
on gw-b failover vm --force --to gw-b --yes >"$work/said" 2>&1 || fail "by force: $(cat "$work/said")"
expect "good" gw-b vm one write
expect "conflict" gw-b vm two write
pair_serve gw-a
within 20 is_streaming gw-b || fail "the old primary does not follow"
expect "good" gw-b vm one "clear a5"
eventually "generation 7,free" gw-a vm other keys held

# --- hold: who is told that he has it has it at both ---
within 20 is_told gw-a held link streaming || fail "held does not stream"
expect "good" gw-a held one "register a1"
pair_kill gw-b
says gw-a held one "reserve a1" >"$work/answer" &
waiting=$!
children="$children $waiting"
is_held() {
    will_say "a1 type 1" gw-a held other held || return 1
    on gw-a status --json | jq -e '.. | objects | select(.name? == "held")' | grep -q "waits for its peer"
}
within 10 is_held || fail "the reservation does not wait: $(cat "$work/answer"); $(on gw-a status --json)"
[ ! -s "$work/answer" ] || fail "answered without the peer: $(cat "$work/answer")"
pair_serve gw-b
wait $waiting
[ "$(cat "$work/answer")" = good ] || fail "after the peer is back: $(cat "$work/answer")"
eventually "a1 type 1" gw-b held other held # in its journal by then, not read from there yet

# --- a file that is damaged there is replaced by what comes ---
# From its own journal it would come before the file is read: that has to have forgotten it.
is_marked() {
    $python "$top_srcdir/tests/replication-files.py" "$work/gw-b/state/disks/held/filters/replication" | grep -q "^journal .* records=0 "
}
within 10 is_marked || fail "the journal forgets nothing"
pair_kill gw-b
echo nonsense >"$work/gw-b/state/disks/held/reservations.json"
kill -STOP "$(cat "$work/gw-a/pid")" # nothing comes before it is read
pair_serve gw-b
within 10 grep -q "reservations.json is damaged" "$work/gw-b/log" || fail "the damaged file is not seen"
kill -CONT "$(cat "$work/gw-a/pid")"
is_replaced() {
    jq -e '.type == 1 and (.registrations | length) == 1' "$work/gw-b/state/disks/held/reservations.json" >/dev/null 2>&1
}
within 20 is_replaced || fail "the damaged file is not replaced"

# --- what came before is not applied yet ---
write_much() { # FIRST
    set -- $(seq "$1" 500)
    for block; do set -- "$@" -c "write -P $((block % 250)) $((block * 12))k 4k"; shift; done
    qemu-io -f raw "$(address_at gw-a slow)" "$@" >/dev/null || fail "no writes"
}
waits_to_be_applied() {
    unapplied=$(told gw-b slow unapplied_bytes)
    [ "$unapplied" -gt 100000 ] || fail "$1: nothing is left to be applied ($unapplied): this tests nothing"
}
within 20 is_told gw-a slow link streaming || fail "slow does not stream"
expect "good,good" gw-a slow one aptpl "register a1" "reserve a1 5"
expect "good" gw-a slow two aptpl "register b2"
write_much 1
expect "good,good" gw-a slow one aptpl "release a1 5" "reserve a1 1"
pair_kill gw-a
on gw-b failover slow --force --to gw-b --yes >"$work/said" 2>&1 || fail "by force: $(cat "$work/said")"
expect "conflict" gw-b slow two write
waits_to_be_applied "by force"
expect "a1 type 1,a1 b2,generation 2" gw-b slow one held keys
expect "good,good" gw-b slow two aptpl "preempt b2 a1" "reserve b2 1"
waits_to_be_applied "when the other has preempted it"
pair_kill gw-b
sed -i 's/, delay: {[^}]*}//' "$work/gw-b/etc/disks.d/slow.yaml"
pair_serve gw-b
within 20 is_told gw-b slow serving 1 || fail "slow does not serve again"
expect "b2 type 1,b2,generation 3" gw-b slow two held keys
expect "conflict" gw-b slow one write
pair_serve gw-a
within 20 is_told gw-b slow link streaming || fail "the old primary does not follow"
eventually "b2 type 1,b2,generation 3" gw-a slow other held keys
within 10 are_equal slow || fail "the disks differ"
for name in gw-a gw-b; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done
echo "reservations are at the peer: by force, planned, after an absence, and when the answer says so"

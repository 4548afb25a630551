#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A replicated disk over iSCSI has a path through each gateway: SendTargets names both with their numbers, the logical
# unit has the same name on both, and the path of the secondary is in standby, in which all is served but the disk
# itself.  A planned failover and one by force exchange the states, under a session that lives on; a
# primary that waits for its peer puts logins off (03/01) and never says that there is no such target (02/03).  A peer's
# portals that cannot be right are refused at the line.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq iscsi-ls
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
add_portals
replicated_disk vm 1f000000-0000-4000-8000-000000000001 8MiB "on_peer_loss: hold, peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
for half in gw-a gw-b; do echo "export: { iscsi: { erase: true } }" >>"$work/$half/etc/disks.d/vm.yaml"; done
target=iqn.2024-01.org.sluice:1f000000-0000-4000-8000-000000000001
path_at() {
    case $1 in gw-a) at=$iscsi_a ;; *) at=$iscsi_b ;; esac
    shift
    $python "$top_srcdir/tests/iscsi-paths.py" "$at" $target "$@"
}
tells() { # GATEWAY QUESTION ANSWER
    path_at "$1" "$2" >"$work/told" 2>&1 && [ "$(cat "$work/told")" = "$3" ]
}
expect() {
    within 10 tells "$@" || fail "$2 at $1: $(cat "$work/told"), not $3"
}
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
expect gw-a tur 02/04/0b # nobody's yet
on gw-a replication promote vm --force >/dev/null || fail "no promotion"
within 20 is_told gw-a vm link streaming || fail "the pair does not follow"

# --- both portals, one name ---
expect gw-a portals "127.0.0.1:$iscsi_a,1 127.0.0.1:$iscsi_b,2"
expect gw-b portals "127.0.0.1:$iscsi_b,2 127.0.0.1:$iscsi_a,1"
iscsi-ls "iscsi://127.0.0.1:$iscsi_b" >"$work/ls" 2>&1 || fail "discovery: $(cat "$work/ls")"
grep -q "Portal:127.0.0.1:$iscsi_a,1" "$work/ls" && grep -q "Portal:127.0.0.1:$iscsi_b,2" "$work/ls" || fail "discovery: $(cat "$work/ls")"
name=$(path_at gw-a name) || fail "no name"
expect gw-b name "$name"

# --- active here, standby there, and the other way round ---
serves() {
    other=$(other_half "$1")
    case $1 in gw-a) own=1 others=2 ;; *) own=2 others=1 ;; esac
    expect "$1" tur ready
    expect "$1" read ready
    expect "$1" groups "$own=optimized $others=standby"
    expect "$other" tur 02/04/0b
    expect "$other" read 02/04/0b
    expect "$other" groups "$others=standby $own=optimized"
    expect "$other" standby served
}
serves gw-a
# What the peer keeps could not be erased: so it is not offered, whatever the policy says.
expect gw-a erasing none
grep -q "export.iscsi.erase has no effect" "$work/gw-a/log" || fail "the log does not warn"
mkfifo "$work/go"
cat >"$work/stays.py" <<'END'
import sys
sys.path.insert(0, sys.argv[1])
import iscsi_initiator as iscsi
session = iscsi.Initiator(int(sys.argv[2]), name="iqn.2001-04.com.example:stays").login(sys.argv[3]).settle()
print("in", flush=True)
sys.stdin.readline()
for _ in range(2):
    status, _, response = session.command(bytes(16))
    print("%02x/%02x/%02x" % (response.data[4] & 15, response.data[14], response.data[15]), flush=True)
END
$python "$work/stays.py" "$top_srcdir/tests" "$iscsi_a" $target <"$work/go" >"$work/session" &
session=$!
exec 7>"$work/go"
children="$children $session"
within 10 grep -q in "$work/session" || fail "no session"
on gw-a failover vm --to gw-b --yes >"$work/out" 2>&1 || fail "failover: $(cat "$work/out")"
serves gw-b
echo go >&7
wait $session
[ "$(tr '\n' ' ' <"$work/session")" = "in 06/2a/06 02/04/0b " ] || fail "a session over the failover: $(cat "$work/session")"

# --- by force, and a primary that waits ---
pair_kill gw-b
on gw-a failover vm --force --to gw-a --yes >"$work/out" 2>&1 || fail "by force: $(cat "$work/out")"
expect gw-a tur ready
expect gw-a groups "1=optimized 2=standby"
pair_serve gw-b
within 20 is_told gw-a vm link streaming || fail "the old primary does not follow"
serves gw-a
pair_kill gw-b
pair_kill gw-a
pair_serve gw-a
expect gw-a login 03/01
pair_serve gw-b
expect gw-a login in
serves gw-a

# --- portals that cannot be right ---
refused() { # PATTERN SENTENCE
    cp "$work/gw-a/etc/gateway.yaml" "$work/kept"
    sed -i "s|iscsi: \[\"127.0.0.1:$iscsi_b\"\]|$1|" "$work/gw-a/etc/gateway.yaml"
    on gw-a check >"$work/said" 2>&1 && fail "$1 is let pass"
    grep -qE "gateway.yaml:[0-9]+:[0-9]+: .*$2" "$work/said" || fail "$1: $(cat "$work/said")"
    cp "$work/kept" "$work/gw-a/etc/gateway.yaml"
}
refused 'iscsi: ["0.0.0.0:3260"]' "peers.gw-b.*cannot reach a wildcard address"
refused 'iscsi: ["127.0.0.1:3260"], portal_group: 1' "peers.gw-b.*they have to differ"
refused 'iscsi: ["127.0.0.1"]' "peers.gw-b.iscsi"
echo "both paths of a disk tell the same name, each its own state: planned, by force, after kill -9"

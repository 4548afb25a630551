#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice verify` finds exactly the blocks that were changed behind the secondary's back, raises no alarm under load, keeps
# its place when the link is lost, and survives kill -9 of either side; --repair sends what differs and nothing else.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq
grain=65536
blocks=4096 # of 4 KiB: 16 MiB

make_pair "link: { heartbeat: 100ms, timeout: 2s }"
replicated_disk vm 4f000000-0000-4000-8000-000000000001 16MiB "peer_wait: 1s, journal: { size: 16MiB },"
"$stamped" make "$work/vm.state" --blocks $blocks --disk 1 || fail "no state file"
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"

# A secondary, and a disk without a peer, are no places to ask.
! on gw-b verify vm >"$work/said" 2>&1 || fail "a secondary verifies"
grep -q "only the primary verifies" "$work/said" || fail "no reason: $(cat "$work/said")"
on gw-a replication promote vm --force >/dev/null || fail "no promotion"
within 20 is_told gw-a vm link streaming || fail "not replicated"
[ "$(told gw-a vm verify)" = never ] || fail "a verify that never was"
for wrong in "--rate fast" "--rate 0" "--rate 10MB/s"; do
    # shellcheck disable=SC2086 # words
    ! on gw-a verify vm $wrong >"$work/said" 2>&1 || fail "$wrong is accepted"
    grep -q "is no rate" "$work/said" || fail "$wrong: $(cat "$work/said")"
done

# --- all the same, under load ---
"$stamped" write "$(address_at gw-a vm)" "$work/vm.state" --seconds 60 --depth 16 --flush-every 40 >"$work/written" &
writer=$!
children="$children $writer"
runs=0
while [ $runs -lt 3 ]; do
    on gw-a verify vm --json >"$work/said" || fail "a false alarm under load: $(cat "$work/said")"
    runs=$((runs + 1))
done
[ "$(jq .verify_bytes "$work/said")" = 16777216 ] || fail "not everything was compared: $(cat "$work/said")"

# --- the link is lost meanwhile: it keeps its place ---
on gw-a verify vm --rate 4MiB/s --no-wait || fail "it does not begin"
has_begun() { [ "$(told gw-a vm verify_done_bytes)" -gt 0 ]; }
within 10 has_begun || fail "it does not go on"
! on gw-a verify vm >"$work/said" 2>&1 || fail "two at a time"
kill -STOP "$(cat "$work/gw-b/pid")"
is_cut() { [ "$(told gw-a vm link)" != streaming ]; }
within 20 is_cut || fail "the link is not lost"
kill -CONT "$(cat "$work/gw-b/pid")"
within 30 is_told gw-a vm verify same || fail "it does not end after the link was lost: $(told gw-a vm verify)"
[ "$(told gw-a vm verify_bytes)" = 16777216 ] || fail "not everything was compared after the link was lost"

# --- kill -9 of the secondary, then of the primary, amid a run: nothing is changed by it ---
for victim in gw-b gw-a; do
    within 20 is_told gw-a vm link streaming || fail "not replicated before $victim is killed"
    on gw-a verify vm --rate 4MiB/s --no-wait || fail "it does not begin before $victim is killed"
    within 10 has_begun || fail "it does not go on"
    if [ $victim = gw-a ]; then
        kill -TERM $writer
        wait $writer || fail "the writer met an error"
    fi
    pair_kill $victim
    pair_serve $victim
    within 30 is_told gw-a vm verify same || fail "$(told gw-a vm verify) after $victim was killed"
    within 30 is_told gw-a vm link streaming || fail "not replicated after $victim was killed"
done
[ "$(told gw-a vm verify_bytes)" = 16777216 ] || fail "of the last run this is left: $(told gw-a vm verify_bytes)"
on gw-a verify vm >"$work/said" || fail "after kill -9: $(cat "$work/said")"
grep -qx "16 MiB compared, all the same" "$work/said" || fail "it says: $(cat "$work/said")"

# --- blocks that are changed behind the secondary's back ---
is_quiet() { [ "$(told gw-b vm journal_bytes)" = 0 ]; }
within 10 is_quiet || fail "the journal is never applied"
$python - "$(image gw-b vm)" <<'PY'
import sys
with open(sys.argv[1], "r+b") as image:
    for at in (3, 65536 * 40 + 65535, 65536 * 41, 16777216 - 1):
        image.seek(at)
        byte = image.read(1)[0]
        image.seek(at)
        image.write(bytes([byte ^ 1]))
PY
expected="0+$grain $((40 * grain))+$((2 * grain)) $((255 * grain))+$grain"
on gw-a verify vm >"$work/said"
[ $? = 2 ] || fail "exit code of a difference"
[ "$(told gw-a vm verify_ranges)" = "$expected" ] || fail "found $(told gw-a vm verify_ranges), not $expected"
grep -qx "differs: $((2 * grain)) bytes at $((40 * grain))" "$work/said" || fail "it is not listed: $(cat "$work/said")"
grep -qx "16 MiB compared, 256 KiB DIFFER" "$work/said" || fail "it says: $(cat "$work/said")"
on gw-a replication status vm | grep -q "262144 differ" || fail "status does not show it"
on gw-a disk show vm | grep -q "verify has found that the two copies differ" || fail "health does not show it"

# --- repair: only they are sent; the bar has the time left ---
sent() { on gw-a status --json | jq '.disks[0].filters[0].counters.resync_bytes'; }
before=$(sent)
$python - "$sluice_program" "$work/gw-a/etc" >"$work/bar" <<'PY' || fail "no verify with a terminal"
import os, pty, sys
# Its standard error is a terminal; what it draws there is printed.
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "verify", "vm", "--config", sys.argv[2], "--repair", "--rate", "16MiB/s"])
drawn = b""
while True:
    try:
        some = os.read(terminal, 4096)
    except OSError:
        break
    if not some:
        break
    drawn += some
sys.stdout.write(drawn.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 2)
PY
grep -q "of 16 MiB, .* left" "$work/bar" || fail "no bar: $(cat "$work/bar")"
within 20 is_told gw-a vm verify_repaired 1 || fail "it is not repaired"
within 20 are_equal vm || fail "the images differ after the repair"
[ $(($(sent) - before)) = $((4 * grain)) ] || fail "$(($(sent) - before)) bytes were sent to repair 4 grains"
on gw-a verify vm >"$work/said" || fail "after the repair: $(cat "$work/said")"
on gw-a disk show vm >"$work/said" || fail "health after the repair: $(cat "$work/said")"

# --- stop ---
on gw-a verify vm --rate 1MiB/s --no-wait || fail "it does not begin"
on gw-a verify vm --stop || fail "it does not end"
[ "$(told gw-a vm verify)" = ended ] || fail "it is not ended: $(told gw-a vm verify)"
! on gw-a verify vm --stop >"$work/said" 2>&1 || fail "what does not run is ended"
for name in gw-a gw-b; do
    pair_kill $name TERM || fail "$name did not stop cleanly"
done
"$stamped" check "$(image gw-b vm)" "$work/vm.state" --whole --settle >"$work/checked" || fail "$(cat "$work/checked")"
echo "$runs runs under load without an alarm, one over a lost link, two killed; 4 grains of 256 found and repaired"

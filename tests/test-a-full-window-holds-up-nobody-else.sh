#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A window of requests less one deferred for ever on one connection: a read on it completes within
# 10 ms.  With the window full, other connections and other disks are untouched, and status names the
# filter that holds it.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq
window=32
make_config
disk held <<END
size: 8MiB
backing: { file: $work/held.raw }
filters:
  - forever: { op: write }
END
disk other <<END
size: 8MiB
backing: { file: $work/other.raw }
END
serve
held_now() { sluice disk show held --json | jq '[.io.in_flight] | add'; }

# The best of five: a read alone, so the figure is the gateway's and not the machine's.
best=1000000
for i in 1 2 3 4 5; do
    mkfifo "$work/in.$i"
    "$top_builddir/tests/tools/nbd-window" "$(uri held)" $((window - 1)) <"$work/in.$i" >"$work/ms" 2>"$work/err" &
    client=$!
    exec 9>"$work/in.$i"
    are_held() { [ "$(held_now)" = $((window - 1)) ]; }
    within 10 are_held || fail "of $((window - 1)) writes $(held_now) are held"
    echo >&9
    has_answer() { [ -s "$work/ms" ] || ! kill -0 $client 2>/dev/null; }
    within 10 has_answer || fail "no answer"
    ms=$(cat "$work/ms")
    [ -n "$ms" ] || fail "the client failed: $(cat "$work/err")"
    best=$(printf '%s\n%s\n' "$ms" "$best" | sort -g | head -n 1)
    sluice forever release held >/dev/null || fail "release"
    exec 9>&-
    wait $client
done
echo "a read beside $((window - 1)) held writes: $best ms"
[ "${best%.*}" -lt 10 ] || fail "a read took $best ms"

mkfifo "$work/in"
"$top_builddir/tests/tools/nbd-window" "$(uri held)" $window --full <"$work/in" 2>"$work/err" &
client=$!
exec 9>"$work/in"
is_full() { [ "$(held_now)" = $window ]; }
within 10 is_full || fail "the window did not fill: $(held_now)"
"$nbd_load" "$(uri other)" --seconds 1 --depth 8 --blocks 512 || fail "another disk is held up"
"$top_builddir/tests/tools/nbd-window" "$(uri held)" 0 </dev/null >"$work/ms" || fail "another connection is held up"
[ "$(cut -d. -f1 "$work/ms")" -lt 1000 ] || fail "another connection waited $(cat "$work/ms") ms"
sluice status >"$work/status"
[ $? -eq 2 ] || fail "status calls that healthy"
grep -q "forever" "$work/status" || fail "status does not name the filter: $(cat "$work/status")"
sluice disk show held --tasks | grep -q "filter forever" || fail "the tasks do not name the filter"
sluice forever release held >/dev/null
exec 9>&-
wait $client
stop TERM

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Filters are attached, detached and reordered under a verifying load at depth 32, RELOADS times
# (default 200), with a filter that defers requests always in the chain: at every swap that counts, filters hold
# some, as the report of the reload says.  No request fails, no byte is wrong, and no pause is longer than 100 ms.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq
make_config
chain() {
    disk d <<END
size: 64MiB
backing: { file: $work/d.raw }
filters: [$1]
END
}
# Chains of one class may be in any order; qos stands in its own place.
delay="delay: { op: all, time: 1ms, spread: 4ms }"
chains="
{ $delay }
{ $delay }, { passthru: {} }
{ passthru: {} }, { $delay }
{ qos: { iops: 100000 } }, { $delay }
{ qos: { iops: 50000 } }, { passthru: {} }, { $delay }
{ $delay }, { reorder: { depth: 4 } }
"
chain "{ $delay }"
serve
"$nbd_load" "$(uri d)" --seconds 600 --depth 32 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
is_loaded() { [ "$(sluice disk show d --json | jq '.io.operations.write.requests')" -gt 100 ]; }
within 20 is_loaded || fail "no load"
longest=0
fewest=1000000
swaps=0
idle=0
done=0
# A load that is not let run for some milliseconds has nothing in flight; such swaps are made again.
while [ $((done - idle)) -lt "${RELOADS:-200}" ]; do
    [ $idle -le 20 ] || fail "nothing was deferred at $idle swaps of $done"
    echo "$chains" | while read -r c; do
        [ -z "$c" ] || echo "$c"
    done >"$work/chains"
    while read -r c; do
        chain "$c"
        sluice reload --json >"$work/report" 2>"$work/err" || fail "reload to $c: $(cat "$work/err")"
        pause=$(jq '[.actions[].pause_ns // 0] | max // 0' "$work/report")
        [ "$pause" -le $longest ] || longest=$pause
        # Not a swap: the first chain is the one that stands.
        deferred=$(jq '[.actions[] | select(.pause_ns // 0 > 0).deferred] | min // empty' "$work/report")
        case $deferred in
        "") ;;
        0) swaps=$((swaps + 1)) idle=$((idle + 1)) ;;
        *) swaps=$((swaps + 1)); [ "$deferred" -ge $fewest ] || fewest=$deferred ;;
        esac
        done=$((done + 1))
    done <"$work/chains"
done
kill -TERM $load
wait $load || fail "the load failed: $(cat "$work/load.json" "$work/load.err")"
cat "$work/load.json"
echo "$done reloads, $swaps swaps, longest pause $((longest / 1000)) us, deferred at each swap $fewest or more," \
    "but at $idle of them nothing"
[ $swaps -ge $((done - 1)) ] || fail "only $swaps of $done reloads swapped a chain"
[ $longest -lt 100000000 ] || fail "a pause of $longest ns"
stop TERM

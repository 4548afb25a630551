#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Filters are attached, detached and reordered under a verifying load at depth 32, RELOADS times
# (default 200).  No request fails, no byte is wrong, no pause is longer than 100 ms, and at every swap filters hold
# requests: `keep` always has one, which it lets go when the disk is quiesced, and no reload is ordered before it has
# one again.
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
# Chains of one class may be in any order; qos stands in its own place.  No filter is replaced by one of its name with
# other options: that is two swaps, and nobody can see to it that a request is held at the second.
keep="keep: {}"
delay="delay: { op: all, time: 1ms, spread: 4ms }"
chains="
{ $keep }, { $delay }
{ $delay }, { $keep }
{ $delay }, { $keep }, { passthru: {} }
{ passthru: {} }, { $delay }, { $keep }
{ qos: { iops: 100000 } }, { passthru: {} }, { $keep }, { $delay }
{ qos: { iops: 100000 } }, { $keep }
{ $keep }, { reorder: { depth: 4 } }
"
chain "{ $keep }"
serve
"$nbd_load" "$(uri d)" --seconds 3600 --depth 32 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
is_loaded() { [ "$(sluice disk show d --json | jq '.io.operations.write.requests')" -gt 100 ]; }
within 20 is_loaded || fail "no load"
keeps_one() { sluice disk show d --json | jq -e '.filters[] | select(.name == "keep").holds.now > 0' >/dev/null; }
longest=0
fewest=1000000
done=0
echo "$chains" | sed '/^$/d' >"$work/chains"
while [ $done -lt "${RELOADS:-200}" ]; do
    while read -r c; do
        within 20 keeps_one || fail "nothing is deferred before reload $done: $(sluice disk show d)"
        chain "$c"
        sluice reload --json >"$work/report" 2>"$work/err" || fail "reload to $c: $(cat "$work/err")"
        # One swap: all of a disk's actions are one change, whose first names what it took.
        swap=$(jq -r '[.actions[] | select(.pause_ns // 0 > 0)] | "\(length) \(.[0].pause_ns) \(.[0].deferred)"' "$work/report")
        pause=${swap#* } pause=${pause% *} deferred=${swap##* }
        [ "${swap%% *}" = 1 ] || fail "reload $done to $c is not one swap: $(cat "$work/report")"
        [ "$deferred" -ge 1 ] || fail "nothing was deferred at reload $done to $c: $(cat "$work/report")"
        [ "$pause" -le $longest ] || longest=$pause
        [ "$deferred" -ge $fewest ] || fewest=$deferred
        done=$((done + 1))
    done <"$work/chains"
done
chain "" # which lets the last one go
sluice reload >"$work/report" 2>&1 || fail "the last reload: $(cat "$work/report")"
kill -TERM $load
wait $load || fail "the load failed: $(cat "$work/load.json" "$work/load.err")"
cat "$work/load.json"
echo "$done reloads, longest pause $((longest / 1000)) us, deferred at each swap $fewest or more"
[ $longest -lt 100000000 ] || fail "a pause of $longest ns"
stop TERM

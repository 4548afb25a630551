#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# One place in eight of a client's window is kept for requests that qos does not limit, whatever the
# window is: limits.nbd_in_flight, or nbdkit's --threads where nbdkit was started by hand.  A client
# that sends more limited requests than that is held to its limit all the same, and a window of 8/7 of
# what it sends gives it room.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq nbdkit qemu-io

with_window() {
    make_config "limits: { nbd_in_flight: $1 }"
    disk d <<END
size: 8MiB
backing: { file: $work/d.raw }
filters:
  - qos: { $2, burst: 0ms }
END
}

# A write that owes 256 s: whatever is written after it waits for so long.
use_up() { qemu-io -f raw -c "write 0 1M" "$(uri d)" >"$work/io" || fail "$(cat "$work/io")"; }

has_held() { [ "$(sluice disk show d --json | jq .io.in_flight)" = "$1" ]; }
has_answer() { [ -s "$work/ms" ] || ! kill -0 $client 2>/dev/null; }

# read_beside WRITES [HELD]: sends so many writes, and a read, when so many are held; sets $ms, what the read
# took, and $all_ms, from the first write on.
read_beside() {
    rm -f "$work/in" "$work/ms"
    began=$(date +%s%N)
    mkfifo "$work/in"
    "$top_builddir/tests/tools/nbd-window" "$(uri d)" "$1" <"$work/in" >"$work/ms" 2>"$work/err" &
    client=$!
    children=$client
    exec 9>"$work/in"
    if [ $# -gt 1 ]; then
        within 30 has_held "$2" || fail "of $1 writes $(sluice disk show d --json | jq .io.in_flight) are held instead of $2"
    fi
    echo >&9
    within 30 has_answer || fail "no answer"
    all_ms=$((($(date +%s%N) - began) / 1000000))
    ms=$(cut -d. -f1 "$work/ms")
    [ -n "$ms" ] || fail "the client failed: $(cat "$work/err")"
    exec 9>&-
    wait $client
}

with_window 8 "write_bandwidth: 4096"
serve
use_up
read_beside 8 7
echo "a read beside 7 held writes in a window of 8: $ms ms"
[ "$ms" -lt 5000 ] || fail "the read waited for a place"
stop

# What cannot be: the read is the 41st request, the window ends before it.
with_window 8 "write_iops: 20"
serve
read_beside 40
echo "a read behind 40 writes of 20 a second in a window of 8: $all_ms ms after the first write"
[ "$all_ms" -ge 1000 ] || fail "the limit of 20 a second did not hold: after $all_ms ms at least 30 writes were done"
stop

with_window 64 "write_bandwidth: 4096"
serve
use_up
read_beside 40 40
echo "a read beside 40 held writes in a window of 64: $ms ms"
[ "$ms" -lt 5000 ] || fail "the read waited for a place"
stop

# nbdkit by hand: what it was given counts, not what the file says.
for said in "--threads=8:8" "-t8:8" "--threads 8:8" "-t 8:8" ":16"; do
    rm -f "$sock"
    # shellcheck disable=SC2086
    nbdkit -f -U "$sock" ${said%:*} "$SLUICE_PLUGIN" config="$config" >>"$work/log" 2>&1 &
    gateway=$!
    within 30 is_answering || fail "nbdkit ${said%:*} does not answer"
    limit=$(sluice disk show d --json | jq .nbd_in_flight_limit)
    [ "$limit" = "${said#*:}" ] || fail "nbdkit ${said%:*}: a window of $limit"
    stop
done

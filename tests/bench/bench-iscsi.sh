#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# bench-iscsi: Sluice and tgt in turn, on files of the same size in the same folder, both in the page cache.
# iscsi-perf reads (random, 4 KiB, 64 KiB and 1 MiB at depth 1, 8, 32, 128; sequential 128 KiB), QEMU's libiscsi driver
# writes (4 KiB in strides at depth 32, 128 KiB in sequence); medians of PAIRS (5) runs of SECONDS_EACH (3) and
# their ratios, as a Markdown table.  Reads also of tgt's null store, which moves no data within the server.
# Then Sluice alone: how evenly SESSIONS (100) sessions at depth 8 are served, and what as many idle ones cost.
#
#     make bench-iscsi [PAIRS=5] [SECONDS_EACH=3] [SESSIONS=100]
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"
need iscsi-perf
need qemu-img
need jq
export SLUICE_PLUGIN=$top_builddir/.libs/nbdkit-sluice-plugin.so SLUICE_FILTER_PATH=$top_builddir/.libs
pairs=${PAIRS:-5}
seconds=${SECONDS_EACH:-3}
sessions=${SESSIONS:-100}
sluice_portal=127.0.0.1:$(free_port)
size=256M
mkdir -p "$dir/etc/disks.d"
cat >"$dir/etc/gateway.yaml" <<END
gateway: gw-bench
state: $dir/state
listen: { nbd: ["unix:$dir/nbd.sock"], iscsi: ["$sluice_portal"], control: "unix:$dir/control.sock" }
END
cat >"$dir/etc/disks.d/d.yaml" <<END
backing: { file: $dir/sluice.raw }
export: { iscsi: { target: d } }
END
for file in lun sluice.raw; do
    head -c $size /dev/urandom >"$dir/$file"
done
sluice() { "$top_builddir/sluice" "$@" --config "$dir/etc"; }
is_answering() { sluice status >/dev/null 2>&1; }
server gateway "$top_builddir/sluice" serve --config "$dir/etc"
until_true 20 is_answering || fail "the gateway does not start"
start_tgtd
tgt --op new --mode logicalunit --tid $tid --lun 2 --bstype null -b "$dir/lun" || fail "no LUN of the null store"
ours=iscsi://$sluice_portal/iqn.2024-01.org.sluice:d/0
theirs=iscsi://$portal/$iqn/1
null=iscsi://$portal/$iqn/2
initiator=iqn.2001-04.com.example:bench

cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$(cat "$dir/$1.pid")/stat"; }

# measure WHO REQUESTS COMMAND...: "REQUESTS-PER-SECOND CPU-MICROSECONDS-PER-REQUEST"; the command prints the first.
measure() {
    local who=$1 before after rate began took
    shift
    before=$(cpu_ticks "$who")
    began=$(date +%s%N)
    rate=$("$@")
    took=$(($(date +%s%N) - began))
    after=$(cpu_ticks "$who")
    [ -n "$rate" ] || fail "no rate from: $*"
    awk "BEGIN { printf \"%s %.1f\n\", $rate, ($after - $before) * 1e6 / $(getconf CLK_TCK) / ($rate * $took / 1e9) }"
}

# The average that iscsi-perf printed last.
reads() {
    iscsi-perf -i $initiator -t "$seconds" "$@" 2>&1 | tr '\r' '\n' | sed -n 's/.*iops average \([0-9]*\).*/\1/p' | tail -n 1
}
writes() { # BLOCK-BYTES DEPTH STRIDE-BYTES COUNT URL; how long qemu-img needs for so many
    local count=$4
    qemu-img bench -f raw -w -t none -c "$count" -s "$1" -d "$2" -S "$3" "$5" | sed -n 's/^Run completed in \([0-9.]*\) seconds.*/\1/p' |
        awk -v n=$count '{ printf "%d\n", n / $1 }'
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# compare NAME WANTED COMMAND...: WANTED times tgt's rate is the promise, 0: none.
compare() {
    local name=$1 wanted=$2 column
    shift 2
    : >"$dir/ours" >"$dir/theirs"
    echo 0 >"$dir/null"
    [ "$1" = writes ] || : >"$dir/null"
    for _ in $(seq "$pairs"); do
        measure gateway "$@" "$ours" >>"$dir/ours"
        measure tgtd "$@" "$theirs" >>"$dir/theirs"
        [ "$1" = writes ] || measure tgtd "$@" "$null" >>"$dir/null"
    done
    for column in ours theirs; do
        cut -d' ' -f1 "$dir/$column" | median >"$dir/$column.iops"
        cut -d' ' -f2 "$dir/$column" | median >"$dir/$column.cpu"
    done
    awk -v name="$name" -v wanted="$wanted" -v null="$(cut -d' ' -f1 "$dir/null" | median)" -v a="$(cat "$dir/ours.iops")" -v b="$(cat "$dir/theirs.iops")" \
        -v ca="$(cat "$dir/ours.cpu")" -v cb="$(cat "$dir/theirs.cpu")" 'BEGIN {
            printf "| %s | %d | %.1f | %d | %.1f | %.2f | %s | %s |\n", name, a, ca, b, cb, a / b, null ? sprintf("%.2f", a / null) : "",
                wanted ? wanted (a >= wanted * b ? "" : " missed") : ""
        }'
}

echo "Medians of $pairs pairs of $seconds s; CPU: of the server, microseconds a request."
echo
echo "| load | Sluice, requests/s | CPU | tgt, requests/s | CPU | ratio | to null store | wanted |"
echo "|---|---:|---:|---:|---:|---:|---:|---|"
{
    for depth in 1 8 32 128; do
        wanted=0
        [ $depth != 1 ] || wanted=1.8
        [ $depth != 32 ] || wanted=3
        compare "read 4 KiB random, depth $depth" $wanted reads -r -b 8 -m $depth
    done
    for depth in 1 8 32 128; do compare "read 64 KiB random, depth $depth" 0 reads -r -b 128 -m $depth; done
    for depth in 1 8 32 128; do compare "read 1 MiB random, depth $depth" 0 reads -r -b 2048 -m $depth; done
    compare "read 128 KiB sequential, depth 8" 1.5 reads -b 256 -m 8
    compare "write 4 KiB in strides, depth 32" 3 writes 4096 32 $((513 * 4096)) $((20000 * seconds))
    compare "write 128 KiB sequential, depth 8" 1.5 writes 131072 8 131072 2048
} | tee "$dir/table"

# Processor time of a cached read beside that of nbdkit's memory plugin over NBD, both at depth 32.
server memory nbdkit -f -t 32 -U "$dir/memory.sock" memory $size
until_true 10 test -S "$dir/memory.sock" || fail "nbdkit does not start"
"$top_builddir/tests/tools/nbd-iops" --depth 32 --rounds "$pairs" --seconds "$seconds" memory="nbd+unix:///?socket=$dir/memory.sock" \
    >"$dir/memory" || fail "nbd-iops"
kill_server memory
echo
awk -v nbd="$(jq '.memory.cpu_ns_a_request | sort | .[length / 2 | floor] / 1000' "$dir/memory")" -F'|' '/read 4 KiB random, depth 32/ {
    printf "CPU of a cached 4 KiB read, depth 32: %.1f us; of nbdkit memory over NBD: %.1f us (wanted: no more, and at most 9)\n", $4, nbd }' "$dir/table"

# Sessions beside one another: each is a process of its own.
resident() { sluice status --json | jq .process.resident_bytes; }
count_sessions() { [ "$(sluice status --json | jq '.iscsi_sessions | length')" -ge "$sessions" ]; }
before=$(resident)
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 $python - "${sluice_portal##*:}" iqn.2024-01.org.sluice:d "$sessions" "$dir/idle" <<'END' &
import os, sys, time
from iscsi_initiator import *
port, target, count, path = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
held = [Initiator(port, "iqn.2001-04.com.example:idle%d" % n).login(target).settle() for n in range(count)]
open(path, "w").close()
while os.path.exists(path):
    time.sleep(0.05)
END
idle=$!
until_true 30 test -e "$dir/idle" || fail "the idle sessions do not log in"
until_true 10 count_sessions || fail "there are no $sessions sessions"
echo
echo "$sessions idle sessions: $(((($(resident) - before)) / 1024)) KiB (wanted: at most $((sessions * 1024)) KiB)"
rm "$dir/idle"
wait $idle

# The sessions of one process, so that the client treats all alike.
fair=$("$top_builddir/tests/tools/iscsi-fair" "$ours" "$sessions" 8 "$seconds") || fail "the $sessions sessions"
echo "$fair" | jq -r --arg n "$sessions" '"\($n) sessions at depth 8: \(.iops) requests/s; p99 of the median session " +
    "\(.p99_median_us) us, of the slowest \(.p99_largest_us) us: ratio \(.p99_largest_us * 100 / .p99_median_us | round / 100) (wanted: at most 3); " +
    "a session got from \(.least) to \(.most) done"'
! grep missed "$dir/table" >/dev/null

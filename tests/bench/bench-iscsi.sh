#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# bench-iscsi: Sluice and tgt, and tgt's null store, which moves no data within the server, on files of the same size in
# the same folder, both in the page cache.  tests/tools/iscsi-iops loads them in turn, slice by slice; a ratio is that of
# two slices of one round, and the table has the medians of PAIRS (9) rounds of SECONDS_EACH (0.5), and the quartiles of
# the ratio.  Then iscsi-perf, a second at a time, whose one thread is busier than the gateway's; what a cached read costs
# beside nbdkit's memory plugin; how evenly SESSIONS (100) sessions at depth 8 are served, and what as many idle ones cost.
#
#     make bench-iscsi [PAIRS=9] [SECONDS_EACH=0.5] [SESSIONS=100]
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"
need iscsi-perf
need jq
export SLUICE_PLUGIN=$top_builddir/nbdkit-sluice-plugin.so SLUICE_FILTER_PATH=$top_builddir
pairs=${PAIRS:-9}
seconds=${SECONDS_EACH:-0.5}
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
address() { echo "$1=$(cat "$dir/$2.pid")@$3"; }
ours=$sluice_portal/iqn.2024-01.org.sluice:d/0
theirs=$portal/$iqn/1
null=$portal/$iqn/2
missed=0

# compare NAME WANTED OPTION...: WANTED times tgt's rate is the promise, 0: none.
compare() {
    local name=$1 wanted=$2
    shift 2
    "$top_builddir/tests/tools/iscsi-iops" --rounds "$pairs" --seconds "$seconds" "$@" "$(address ours gateway "$ours")" \
        "$(address tgt tgtd "$theirs")" "$(address null tgtd "$null")" >"$dir/result" || fail "iscsi-iops $*"
    jq -r --arg name "$name" --argjson wanted "$wanted" '
        def at($part): sort | .[length * $part | floor];
        def ratios($to): [.ours.requests_a_second, $to.requests_a_second] | transpose | map(.[0] / .[1]);
        def two: . * 100 | round / 100;
        def us: .cpu_ns_a_request | at(0.5) / 100 | round / 10;
        ratios(.tgt) as $r |
        "| \($name) | \($r | at(0.5) | two) | \($r | at(0.25) | two) to \($r | at(0.75) | two) | \(ratios(.null) | at(0.5) | two) | " +
        "\(.ours | us) | \(.tgt | us) | \([.ours, .tgt] | map(.client_busy | at(0.5) | two | tostring) | join(", ")) | " +
        "\(if $wanted == 0 then "" else "\($wanted)\(if ($r | at(0.5)) < $wanted then " missed" else "" end)" end) |"' "$dir/result"
    [ "$name" != "$cached" ] || cp "$dir/result" "$dir/cached"
}

echo "Requests a second of Sluice to those of tgt; CPU: of the server, microseconds a request; how busy the client was."
echo
echo "| load | ratio | quartiles | to null store | CPU | tgt's CPU | client busy | wanted |"
echo "|---|---:|---|---:|---:|---:|---|---|"
cached="read 4 KiB random, depth 32"
{
    for depth in 1 8 32 128; do
        wanted=0
        [ $depth != 1 ] || wanted=1.8
        [ $depth != 32 ] || wanted=3
        compare "read 4 KiB random, depth $depth" $wanted --depth $depth
    done
    for depth in 1 8 32 128; do compare "read 64 KiB random, depth $depth" 0 --block 65536 --depth $depth; done
    for depth in 1 8 32 128; do compare "read 1 MiB random, depth $depth" 0 --block 1048576 --depth $depth; done
    compare "read 128 KiB sequential, depth 8" 1.5 --op read --block 131072 --depth 8
    compare "write 4 KiB random, depth 1" 0 --op randwrite
    compare "write 4 KiB random, depth 32" 0 --op randwrite --depth 32
    compare "write 128 KiB sequential, depth 8" 1.5 --op write --block 131072 --depth 8
} | tee "$dir/table"
! grep missed "$dir/table" >/dev/null || missed=1

# iscsi-perf, through libiscsi as QEMU and fio are, which sends each command by a system call of its own.  What limits
# it is seen beside the rate: the processor time that it and the server take for a request, and of the time.
cpu_ticks() { sed 's/.*) //' "/proc/$(cat "$dir/$1.pid")/stat" | awk '{ print $12 + $13 }'; }
reads() { # SERVER ADDRESS DEPTH: requests a second, seconds of the client's processor time, of the server's, in all
    local since TIMEFORMAT='%U %S %R'
    since=$(cpu_ticks "$1")
    { time iscsi-perf -i iqn.2001-04.com.example:bench -t 1 -r -b 8 -m "$3" "iscsi://$2" >"$dir/reads" 2>&1; } 2>"$dir/times"
    echo "$(tr '\r' '\n' <"$dir/reads" | sed -n 's/.*iops average \([0-9]*\).*/\1/p' | tail -n 1)" \
        "$(awk '{ print $1 + $2 }' "$dir/times") $((($(cpu_ticks "$1") - since) * 1000 / $(getconf CLK_TCK)))" \
        "$(awk '{ print $3 }' "$dir/times")"
}
through_libiscsi() { # DEPTH WANTED
    for _ in $(seq "$pairs"); do echo "$(reads gateway "$ours" "$1") $(reads tgtd "$theirs" "$1")"; done |
        jq -Rrn --arg depth "$1" --argjson wanted "$2" '
            def at($part): sort | .[length * $part | floor];
            def two: . * 100 | round / 100;
            def us($seconds; $rate): [.[] | .[$seconds] * 1e7 / .[$rate] / .[$rate + 3]] | at(0.5) | round / 10;
            [inputs | split(" ") | map(tonumber) | .[2] /= 1000 | .[6] /= 1000] | [.[] | .[0] / .[4]] as $r |
            "| read 4 KiB random, depth \($depth) | \($r | at(0.5) | two) | \($r | at(0.25) | two) to \($r | at(0.75) | two) | " +
            "\(us(2; 0)) | \(us(6; 4)) | \(us(1; 0)) | \(us(5; 4)) | \([.[] | .[1] / .[3]] | at(0.5) | two), " +
            "\([.[] | .[2] / .[3]] | at(0.5) | two) | \(if $wanted == 0 then "" else "\($wanted)\(if ($r | at(0.5)) < $wanted then " missed" else "" end)" end) |"'
}
echo
echo "The same by iscsi-perf; CPU: microseconds a request, of both servers and of the client with either; busy: the client, the gateway."
echo
echo "| load | ratio | quartiles | CPU | tgt's CPU | the client's | with tgt | busy | wanted |"
echo "|---|---:|---|---:|---:|---:|---:|---|---|"
{
    through_libiscsi 1 1.8
    through_libiscsi 8 0
    through_libiscsi 32 3
} | tee "$dir/table"
! grep missed "$dir/table" >/dev/null || missed=1

# Processor time of a cached read beside that of nbdkit's memory plugin over NBD, both at depth 32.
server memory nbdkit -f -t 32 -U "$dir/memory.sock" memory $size
until_true 10 test -S "$dir/memory.sock" || fail "nbdkit does not start"
"$top_builddir/tests/tools/nbd-iops" --depth 32 --rounds "$pairs" --seconds "$seconds" memory="nbd+unix:///?socket=$dir/memory.sock" \
    >"$dir/memory" || fail "nbd-iops"
kill_server memory
echo
jq -rn --slurpfile nbd "$dir/memory" --slurpfile iscsi "$dir/cached" '
    def us: .cpu_ns_a_request | sort | .[length / 2 | floor] / 100 | round / 10;
    ($iscsi[0].ours | us) as $ours | ($nbd[0].memory | us) as $memory |
    "CPU of a cached 4 KiB read, depth 32: \($ours) us; of nbdkit memory over NBD: \($memory) us (wanted: no more, and at most 9)" +
    if $ours > $memory or $ours > 9 then " missed" else "" end' | tee "$dir/cpu"
! grep missed "$dir/cpu" >/dev/null || missed=1

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
fair=$("$top_builddir/tests/tools/iscsi-fair" "iscsi://$ours" "$sessions" 8 3) || fail "the $sessions sessions"
echo "$fair" | jq -r --arg n "$sessions" '(.p99_largest_us * 100 / .p99_median_us | round / 100) as $ratio |
    "\($n) sessions at depth 8: \(.iops) requests/s; p99 of the median session \(.p99_median_us) us, of the slowest " +
    "\(.p99_largest_us) us: ratio \($ratio) (wanted: at most 3\(if $ratio > 3 then ", missed" else "" end)); " +
    "a session got from \(.least) to \(.most) done"' | tee "$dir/sessions"
! grep missed "$dir/sessions" >/dev/null || missed=1
exit $missed

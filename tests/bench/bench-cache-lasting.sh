#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What of the cache lasts: the times of reads while it brings data to a slow backing, how soon a full tier of which
# half is dirty is ready after kill -9, what it costs in memory, and whether the same requests find as much after
# kill -9 as without.
#
# Exits 1 where a promise is missed:
#     p99 of reads while destaging : idle                      <= 2
#     ready after kill -9, a full tier, half of it dirty       < 1 s
#     the same after SIGTERM, and the next client after the last one has left
#     hits of the same requests, kill -9 amid : not            >= 0.95
#
# TIER_SIZE (2GiB)    of the full tier; the promise is of 8GiB, which takes four times as long
# PARTS               which of full_tier, warm, destaging; all
# TRACE               a block trace (`block ...` a line, as OLTP.lis); without it requests by Zipf's law
# PAIRS (5), SECONDS_EACH (1), DELAY (5ms), BENCH_DIR
: "${SIZE:=128M}"
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
requires nbdsh
: "${PAIRS:=5}" "${SECONDS_EACH:=1}" "${DELAY:=5ms}" "${TIER_SIZE:=2GiB}"
tier_mib=$(($(numfmt --from=auto --suffix=B "${TIER_SIZE%B}B" | tr -d B) >> 20))

mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: $((tier_mib + 2048))MiB } }"
peer_nbdkit slow --filter=delay memory "$SIZE" rdelay="$DELAY" wdelay="$DELAY"
disk busy <<<"{ backing: { nbd: 'nbd+unix:///?socket=$work/slow.sock' },
    filters: [ cache: { ram: 1MiB, ssd: { tier: ssd0, size: 512MiB }, dirty: { soft: 80, hard: 90 }, destage: { after: 1h } } ] }"
disk full <<<"{ size: ${tier_mib}MiB, backing: { file: $work/full.raw },
    filters: [ cache: { ram: 1MiB, ssd: { tier: ssd0, size: ${tier_mib}MiB }, dirty: { soft: 90, hard: 95 }, destage: { after: 1h } } ] }"
for name in whole killed; do
    disk $name <<<"{ size: 1GiB, backing: { file: $work/$name.raw },
        filters: [ cache: { ram: 6MiB, ssd: { tier: ssd0, size: 64MiB } } ] }"
done

# cache DISK FIELD: of its status.
cache() {
    sluice cache status "$1" --json | jq -e ".$2"
}
counter() {
    sluice metrics | awk -v disk="disk=\"$1\"" -v name="_$2_total\\\\{" \
        '$1 ~ name && index($1, disk) && index($1, "filter=\"cache\"") { sum += $2 } END { printf "%d\n", sum }'
}
resident_kib() {
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$gateway/status"
}
verdict() { # TEXT VALUE OPERATOR LIMIT
    jq -en "$2 $3 $4" >/dev/null && echo "kept: $1: $2, promised $3 $4" && return
    echo "MISSED: $1: $2, promised $3 $4"
    missed=$((missed + 1))
}

# --- reads while destaging ----------------------------------------------------------------------------------
# p99_us DEPTH: of reads that the SSD answers.
p99_us() {
    "$nbd_iops" --depth "$1" --rounds 1 --seconds "$SECONDS_EACH" busy="$(uri busy)" | jq '.busy.p99_us[0]'
}
destaging() {
    for depth in 1 8; do
        : >"$work/pairs"
        for _ in $(seq "$PAIRS"); do
            "$nbd_iops" --op randwrite --depth 32 --rounds 1 --requests 12000 busy="$(uri busy)" >/dev/null || fail "the load failed"
            idle=$(p99_us $depth)
            sluice cache flush busy >"$work/flushed" &
            flush=$!
            busy=$(p99_us $depth)
            cache busy dirty_bytes >"$work/left"
            wait $flush || fail "the cache cannot be emptied"
            [ "$(cat "$work/left")" -gt 0 ] || { echo "the destaging was over too soon" >&2; continue; }
            echo "$idle $busy" >>"$work/pairs"
        done
        ratio=$(awk '{ print $2 / $1 }' "$work/pairs" | median)
        echo "p99 of 4 KiB reads from the SSD, depth $depth: $(cut -d' ' -f1 "$work/pairs" | median) us idle," \
            "$(cut -d' ' -f2 "$work/pairs" | median) us while destaging"
        verdict "p99 while destaging : idle, depth $depth" "$ratio" "<=" 2
    done
}

# --- a full tier ----------------------------------------------------------------------------------------------
# fill HALF: writes so many MiB, brings them to the backing, and writes as many more.  The client stays until the gateway
# is gone: when the last one leaves, the cache writes a checkpoint.
fill() {
    nbdsh -u "$(uri full)" -c "
import os, subprocess, time
data = bytearray(os.urandom(1 << 20))
def write(first):
    for i in range(first, first + $1):
        data[0:8] = i.to_bytes(8, 'little')
        h.pwrite(data, i << 20)
    h.flush()
def cache(verb, out):
    subprocess.run(['$sluice_program', 'cache', verb, '--config', '$config', 'full', '--json'], check=True, stdout=out)
write(0)
cache('flush', subprocess.DEVNULL)
write($1)
cache('status', open('$work/status.new', 'w'))
os.rename('$work/status.new', '$work/status')
while True:
    try: h.pread(4096, 0)
    except nbd.Error: break
    time.sleep(0.2)" >"$work/fill.out" 2>&1 &
    filler=$!
    children="$children $filler"
    within 3600 is_filled || fail "the tier cannot be filled: $(cat "$work/fill.out")"
}
is_filled() {
    [ -f "$work/status" ] || ! kill -0 $filler 2>/dev/null
}
# seconds COMMAND...: prints how long it took.
seconds() {
    began=$(date +%s%N)
    "$@" || return 1
    jq -n "$(($(date +%s%N) - began)) / 1e9 * 1000 | round / 1000"
}
is_readable() {
    nbdsh -u "$(uri full)" -c 'h.pread(4096, 0)' 2>/dev/null
}
# A client that was there before the gateway: writes when it could read.  One that has to be started takes as long as
# the gateway.
ask_all_the_time() {
    rm -f "$work/asks" "$work/first_read"
    nbdsh -c "
import time
until = time.time() + 60
open('$work/asks', 'w').close()
while time.time() < until:
    try:
        h.connect_uri('$(uri full)')
        h.pread(4096, 0)
        print(time.time_ns())
        break
    except nbd.Error:
        h = nbd.NBD()
        time.sleep(0.005)" >"$work/first_read" 2>>"$work/log" &
    client=$!
    children="$children $client"
    within 20 test -f "$work/asks" || fail "nbdsh"
}
# Some of it may have gone to the backing meanwhile.
is_as_it_was() {
    echo "$1: $(($(cache full cached_bytes) >> 20)) MiB cached, of which $(($(cache full dirty_bytes) >> 20)) dirty"
    [ "$(cache full cached_bytes)" -ge $((cached / 20 * 19)) ] && [ "$(cache full dirty_bytes)" -gt 0 ] || fail "the tier is not what it was"
}
# ready_after SIGNAL: of a full tier.
ready_after() {
    began=$(date +%s%N)
    stop "$1"
    echo "SIG$1: ended after $((($(date +%s%N) - began) / 1000000)) ms"
    ask_all_the_time
    began=$(date +%s%N)
    serve
    wait $client
    [ -s "$work/first_read" ] || fail "the disk cannot be read"
    ready=$(jq -n "$(($(cat "$work/first_read") - began)) / 1e9 * 1000 | round / 1000")
    is_as_it_was "after SIG$1"
    verdict "ready after SIG$1, a tier of $TIER_SIZE, s" "$ready" "<" 1
}
full_tier() {
    before_kib=$(resident_kib)
    fill $((tier_mib * 45 / 100))
    cached=$(jq -e .cached_bytes "$work/status") dirty=$(jq -e .dirty_bytes "$work/status")
    echo "a tier of $TIER_SIZE: $((cached >> 20)) MiB cached, of which $((dirty >> 20)) dirty"
    echo "memory for each TiB cached: $(jq -n "$(cache full index_bytes) / $cached * 1024 * 100 | round / 100")" \
        "GiB by the structures; the process has $((($(resident_kib) - before_kib) / 1024)) MiB more than when the tier was empty"
    ready_after KILL
    verdict "the next client after the last one has left, s" "$(seconds within 60 is_readable)" "<" 1
    ready_after TERM
}

# --- as warm as before -----------------------------------------------------------------------------------------
make_requests() {
    if [ -n "${TRACE:-}" ]; then
        head -n 100000 "$TRACE" | cut -d' ' -f1
    else
        python3 -c '
import random
random.seed(7)
blocks = list(range(100000))
random.shuffle(blocks)
weights = [1 / (i + 1) ** 0.9 for i in range(len(blocks))]
for block in random.choices(blocks, weights, k=100000): print(block)'
    fi >"$work/requests"
}
# play DISK FROM TO: reads the blocks that these lines name, each number a block of 4 KiB.
play() {
    nbdsh -u "$(uri "$1")" -c "
lines = [int(x) for x in open('$work/requests')]
place = {block: i for i, block in enumerate(dict.fromkeys(lines))}
for block in lines[$2:$3]: h.pread(4096, place[block] * 4096)" || fail "the trace cannot be played"
}
# percent_hit DISK FROM TO
percent_hit() {
    hits=$(($(counter "$1" hits_ssd) + $(counter "$1" hits_ram))) misses=$(counter "$1" misses)
    play "$@"
    hits=$(($(counter "$1" hits_ssd) + $(counter "$1" hits_ram) - hits)) misses=$(($(counter "$1" misses) - misses))
    [ $((hits + misses)) -ge 20000 ] || fail "the counters do not count: $hits hits, $misses misses"
    jq -n "$hits / ($hits + $misses) * 1000 | round / 10"
}
warm() {
    make_requests
    for name in whole killed; do play $name 0 70000; done
    of_whole=$(percent_hit whole 70000 100000)
    stop KILL
    serve
    of_killed=$(percent_hit killed 70000 100000)
    echo "hits of the same 30000 requests: $of_whole % without, $of_killed % after kill -9"
    verdict "hits after kill -9 : without" "$(jq -n "$of_killed / $of_whole * 1000 | round / 1000")" ">=" 0.95
}

serve
for part in ${PARTS:-full_tier warm destaging}; do # in this order: what the process has at first is what an empty cache takes
    $part
done
stop TERM
[ $missed -eq 0 ]

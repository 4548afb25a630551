#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What the cache is worth: disks with and without it, loaded in turn, slice by slice, and compared round by round.
#
#   writes    4 KiB, random, alone and with flushes, at depth 1 and 32: write-back over a backing whose every
#             request takes DELAY (5ms) beside the same backing without a cache
#   reads     hits of the SSD (a file here) and of RAM, beside a disk on a plain file in the page cache
#   then      bytes written to the SSD for each byte that clients wrote, and how many blocks of a random read the
#             cache answers before and right after kill -9
#
# The delay is of reads and writes; flushes of the backing pass it. The disk is small enough that all of it fits: this
# shows what a burst gets, not what lasts when the backing cannot keep up. A report; it exits 1 only where the cache
# forgot what it held, or was no faster than its backing.
#
# PAIRS (5), SECONDS_EACH (0.5), SIZE (64M), DELAY, BENCH_DIR
: "${SIZE:=64M}"
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
: "${PAIRS:=5}" "${SECONDS_EACH:=0.5}" "${DELAY:=5ms}"
missed=0

# slow_disk NAME FILTERS: over a backing of its own that takes its time.
slow_disk() {
    peer_nbdkit "slow-$1" --filter=delay memory "$SIZE" rdelay="$DELAY" wdelay="$DELAY"
    disk "$1" <<END
backing: { nbd: "nbd+unix:///?socket=$work/slow-$1.sock" }
filters: $2
END
}

start_servers() {
    make_image file
    cp "$work/file.raw" "$work/ram.raw"
    mkdir "$work/ssd"
    make_config "tiers: { ssd0: { path: $work/ssd, size: 1GiB } }"
    slow_disk bare "[]"
    slow_disk cached "[cache: { ram: 1MiB, ssd: { tier: ssd0, size: 512MiB } }]"
    echo "{ backing: { file: $work/file.raw }, filters: [] }" | disk file
    echo "{ backing: { file: $work/ram.raw }, filters: [cache: { ram: 128MiB }] }" | disk ram
    serve
}

# counter DISK NAME: of its cache.
counter() {
    sluice metrics | awk -v disk="disk=\"$1\"" -v name="_$2(_bytes)?_total\\\\{" \
        '$1 ~ name && index($1, disk) && index($1, "filter=\"cache\"") { sum += $2 } END { printf "%d\n", sum }'
}

# load NAME... -- OPTION...: into $work/result.json
load() {
    names=
    while [ "$1" != -- ]; do
        names="$names $1=$(uri "$1")"
        shift
    done
    shift
    # shellcheck disable=SC2086
    "$nbd_iops" "$@" --rounds "$PAIRS" --seconds "$SECONDS_EACH" $names >"$work/result.json" || fail "the load failed"
}

# row TEXT NAME BASE [AT-LEAST]: medians of both and of the rounds' ratios.
row() {
    # shellcheck disable=SC2046
    set -- "$1" "$2" "$3" "${4:-0}" $(jq -r --arg name "$2" --arg base "$3" 'def median: sort | .[length / 2 | floor];
        .[$name].requests_a_second as $n | .[$base].requests_a_second as $b |
        "\($n | median) \($b | median) \([$n, $b] | transpose | map(.[0] / .[1]) | median)"' "$work/result.json")
    printf '| %s | %s : %s | %.0f | %.0f | %.2f |\n' "$1" "$2" "$3" "$5" "$6" "$7"
    jq -en "$7 >= $4" >/dev/null || { echo "MISSED: $1: at least $4 was wanted"; missed=1; }
}

compare_writes() {
    for depth in 1 32; do
        load cached bare -- --op randwrite --depth $depth
        row "4 KiB random writes, depth $depth" cached bare 1
        load cached bare -- --op randwrite --depth $depth --flush-every $((depth + 1))
        row "the same, every request number $((depth + 1)) a flush" cached bare 1
    done
}

compare_reads() {
    sluice cache flush cached >/dev/null || fail "flush"
    nbdcopy "$(uri ram)" null: || fail "nbdcopy"
    for depth in 1 32; do
        load cached ram file -- --op randread --depth $depth
        row "4 KiB random reads from the SSD, depth $depth" cached file
        row "4 KiB random reads from RAM, depth $depth" ram file
    done
}

# hit_percent: how many blocks of a second of random reads did not need the backing.
hit_percent() {
    hits=$(($(counter cached hits_ssd) + $(counter cached hits_ram))) misses=$(counter cached misses)
    "$nbd_iops" --rounds 1 --requests 2000 --depth 32 cached="$(uri cached)" >/dev/null || fail "the load failed"
    hits=$(($(counter cached hits_ssd) + $(counter cached hits_ram) - hits))
    misses=$(($(counter cached misses) - misses))
    [ $((hits + misses)) -ge 2000 ] || fail "the counters do not count: $hits hits, $misses misses"
    jq -n "$hits / ($hits + $misses) * 1000 | round / 10"
}

start_servers
printf '| load | disks | requests a second | of the other | ratio |\n|---|---|---:|---:|---:|\n'
compare_writes
written=$(jq -n "$(counter cached log_written) / $(counter cached client_written) * 100 | round / 100")
compare_reads
before=$(hit_percent)
stop KILL
began=$(date +%s%N)
serve
ready=$((($(date +%s%N) - began) / 1000000))
after=$(hit_percent)
printf '\n%s rounds of %s s on %s processors; backing: %s a request\n' "$PAIRS" "$SECONDS_EACH" "$(nproc)" "$DELAY"
printf 'bytes written to the SSD for each that clients wrote: %s\n' "$written"
printf 'hits before kill -9: %s %%, right after it: %s %%; ready after %s ms\n' "$before" "$after" "$ready"
jq -en "$after >= 0.95 * $before and $before > 0" >/dev/null || {
    echo "MISSED: the cache is cold after kill -9"
    missed=1
}
stop TERM
[ $missed -eq 0 ]

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What the cache is worth: disks with and without it, loaded in turn, slice by slice, and compared round by round.
#
#   writes    4 KiB, random, alone and with flushes, at depth 1 and 32: write-back over a backing whose every
#             request takes DELAY (5ms) beside the same backing without a cache; and beside nbdkit's own cache
#             filter, in write-back and with blocks of 4 KiB, over the same backing of 1 ms and of 10 ms
#   pairs     a write and a flush, one after the other, beside nbdkit's file plugin
#   reads     hits of the SSD (a file here) and of RAM, beside a disk on a plain file in the page cache; hits of RAM
#             beside nbdkit's memory plugin; of the SSD, with O_DIRECT, beside fio's io_uring on a bare file, and
#             beside a disk on that file opened with O_DIRECT: what of the difference is the socket's, not the cache's
#   then      bytes written to the SSD for each byte that clients wrote, and how many blocks of a random read the
#             cache answers before and right after kill -9
#
# The delay is of reads and writes; flushes of the backing pass it. The disk is small enough that all of it fits: this
# shows what a burst gets, not what lasts when the backing cannot keep up: bench-cache-lasting does that.  It exits 1
# where a promised ratio is missed:
#     write-back : nbdkit's cache filter, a flush every 32       >= 3        RAM : nbdkit memory                 >= 0.95
#     a write and a flush : nbdkit file                          >= 1        SSD : fio on the file, depth 32, 1  >= 0.7, 0.5
#     write-back : its backing                                   >= 1        hits after kill -9 : before         >= 0.95
#
# PAIRS (5), SECONDS_EACH (0.5), SIZE (64M), DELAY, BENCH_DIR
: "${SIZE:=64M}"
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
requires fio
: "${PAIRS:=5}" "${SECONDS_EACH:=0.5}" "${DELAY:=5ms}"
missed=0

# slow_disk NAME DELAY FILTERS: over a backing of its own that takes its time.
slow_disk() {
    peer_nbdkit "slow-$1" --filter=delay memory "$SIZE" rdelay="$2" wdelay="$2"
    disk "$1" <<END
backing: { nbd: "nbd+unix:///?socket=$work/slow-$1.sock" }
filters: $3
END
}

start_servers() {
    make_image file
    for copy in ram plain raw; do cp "$work/file.raw" "$work/$copy.raw"; done
    sync "$work/raw.raw" "$work/plain.raw"
    mkdir "$work/ssd"
    make_config "tiers: { ssd0: { path: $work/ssd, size: 2GiB } }"
    slow_disk bare "$DELAY" "[]"
    slow_disk cached "$DELAY" "[cache: { ram: 1MiB, ssd: { tier: ssd0, size: 256MiB } }]"
    for delay in 1ms 10ms; do
        slow_disk "ours-$delay" $delay "[cache: { ram: 1MiB, ssd: { tier: ssd0, size: 256MiB } }]"
        peer_nbdkit "kit-$delay" --filter=cache --filter=delay memory "$SIZE" rdelay=$delay wdelay=$delay \
            cache=writeback cache-min-block-size=4K
    done
    peer_nbdkit plain file "$work/plain.raw"
    peer_nbdkit memory memory "$SIZE"
    nbdcopy "$work/file.raw" "nbd+unix:///?socket=$work/memory.sock" || fail "nbdcopy"
    echo "{ backing: { file: $work/file.raw }, filters: [] }" | disk file
    echo "{ backing: { file: $work/raw.raw, direct: true }, filters: [] }" | disk direct
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
        case $1 in
        kit-* | plain | memory) names="$names $(address "$1")" ;;
        *) names="$names $1=$(uri "$1")" ;;
        esac
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
    verdict=
    [ "$4" = 0 ] || verdict=kept
    jq -en "$7 >= $4" >/dev/null || { verdict=MISSED missed=1; }
    printf '| %s | %s : %s | %.0f | %.0f | %.2f | %s | %s |\n' "$1" "$2" "$3" "$5" "$6" "$7" "${4#0}" "$verdict"
}

compare_writes() {
    for depth in 1 32; do
        load cached bare -- --op randwrite --depth $depth
        row "4 KiB random writes, depth $depth" cached bare 1
        load cached bare -- --op randwrite --depth $depth --flush-every $((depth + 1))
        row "the same, every request number $((depth + 1)) a flush" cached bare 1
    done
}

compare_with_nbdkit() {
    for delay in 1ms 10ms; do
        load "ours-$delay" "kit-$delay" -- --op randwrite --depth 1 --flush-every 33
        row "32 writes and a flush, depth 1, backing of $delay" "ours-$delay" "kit-$delay" 3
        load "ours-$delay" "kit-$delay" -- --op randwrite --depth 32 --flush-every 33
        row "the same, depth 32" "ours-$delay" "kit-$delay" 3
    done
    # What the loads before have left is brought to the backings meanwhile: that is not what is compared here.
    for name in cached ours-1ms ours-10ms; do sluice cache flush "$name" >/dev/null || fail "flush"; done
    load cached plain -- --op randwrite --depth 1 --flush-every 2
    row "a write and a flush, depth 1" cached plain 1
}

# Beside fio on a file, in turn: one slice each a round.
compare_with_fio() {
    rounds=$PAIRS
    for pair in 32:0.7 1:0.5; do
        depth=${pair%:*}
        : >"$work/fio"
        for _ in $(seq "$rounds"); do
            of_fio=$(fio --name=load --filename="$work/raw.raw" --direct=1 --ioengine=io_uring --rw=randread --bs=4k \
                --iodepth="$depth" --time_based --runtime="$(jq -n "$SECONDS_EACH * 1000 | floor")ms" --randrepeat=0 --output-format=json \
                2>>"$work/log" | jq '.jobs[0].read.iops')
            PAIRS=1
            load cached -- --op randread --depth "$depth"
            jq -c --argjson fio "$of_fio" '{cached: .cached, fio: {requests_a_second: [$fio]}}' "$work/result.json" >>"$work/fio"
        done
        PAIRS=$rounds
        jq -s '{cached: {requests_a_second: map(.cached.requests_a_second[0])}, fio: {requests_a_second: map(.fio.requests_a_second[0])}}' \
            "$work/fio" >"$work/result.json"
        row "4 KiB random reads from the SSD, O_DIRECT, depth $depth" cached fio "${pair#*:}"
        load cached direct -- --op randread --depth "$depth"
        row "the same, depth $depth" cached direct
    done
}

compare_reads() {
    # What the random writes have left out would be misses, of the first rounds more than of the last.
    "$nbd_iops" --op write --block 65536 --rounds 1 --requests $(($(stat -c %s "$work/file.raw") / 65536)) \
        cached="$(uri cached)" >/dev/null || fail "the disk cannot be filled"
    sluice cache flush cached >/dev/null || fail "flush"
    nbdcopy "$(uri ram)" null: || fail "nbdcopy"
    for depth in 1 32; do
        load cached ram file memory -- --op randread --depth $depth
        row "4 KiB random reads from the SSD, depth $depth" cached file
        row "4 KiB random reads from RAM, depth $depth" ram file
        row "4 KiB random reads from RAM, depth $depth" ram memory 0.95
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
printf '| load | disks | requests a second | of the other | ratio | promised | |\n|---|---|---:|---:|---:|---:|---|\n'
compare_writes
written=$(jq -n "$(counter cached log_written) / $(counter cached client_written) * 100 | round / 100")
compare_with_nbdkit
compare_reads
compare_with_fio
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

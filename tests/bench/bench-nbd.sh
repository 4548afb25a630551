#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Sluice beside its peers over NBD: nbdkit's file, memory and null plugins, qemu-nbd with and without the page
# cache, Sluice with no, one and five filters that ask for completions, and with O_DIRECT.  All are loaded in
# turn by nbd-iops, slice by slice; what is compared are slices of one round, so the tables hold ratios and
# their quartiles, and no absolute figure.
#
# Exits 1 when a promised ratio is missed:
#     Sluice with an empty chain : nbdkit file, 4 KiB random reads and writes, depth 1 and 32    >= 0.95
#     Sluice with an empty chain : qemu-nbd, 4 KiB random reads, depth 32                        >= 2
#
# PAIRS (45)           rounds: slices of each server; many short ones, since a busy machine changes fast
# SECONDS_EACH (0.1)   the length of a slice
# LOADS                lines "operation depth connections block", instead of the whole table
# SERVERS              names of servers, instead of all (file, sluice-0 and qemu are always there)
# BENCH_DIR, SIZE      see bench-functions.sh
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
: "${PAIRS:=45}" "${SECONDS_EACH:=0.1}"
: "${SERVERS:=memory null qemu-direct sluice-1 sluice-5 sluice-direct}"
: "${LOADS:=randread 1 1 4096
randread 32 1 4096
randwrite 1 1 4096
randwrite 32 1 4096
randread 8 4 4096
randwrite 8 4 4096
read 32 1 131072
write 32 1 131072}"

start_servers() {
    make_image disk
    cp "$work/disk.raw" "$work/one.raw"
    cp "$work/disk.raw" "$work/five.raw"
    cp "$work/disk.raw" "$work/direct.raw"
    sync "$work"/*.raw
    make_config
    sluice_disk sluice-0 disk "" 0
    sluice_disk sluice-1 one "" 1
    sluice_disk sluice-5 five "" 5
    sluice_disk sluice-direct direct "direct: true" 0
    serve
    peer_nbdkit file file "$work/disk.raw"
    peer_nbdkit memory memory "$SIZE" allocator=malloc
    peer_nbdkit null null "$SIZE"
    peer_qemu qemu writeback threads
    peer_qemu qemu-direct none native
}

# measure OPERATION DEPTH CONNECTIONS BLOCK: into $work/result.json
measure() {
    addresses=$(for name in file sluice-0 qemu $SERVERS; do address "$name"; done)
    # shellcheck disable=SC2086
    "$nbd_iops" --op "$1" --depth "$2" --connections "$3" --block "$4" --rounds "$PAIRS" \
        --seconds "$SECONDS_EACH" $addresses >"$work/result.json" || fail "the load failed"
}

table_row() {
    # shellcheck disable=SC2046
    printf '| %s | %.2f (%.2f to %.2f) | %.2f (%.2f to %.2f) |\n' "$1" \
        $(ratio requests_a_second "$1" file | awk '{ print $2, $1, $3 }') \
        $(ratio cpu_ns_a_request "$1" file | awk '{ print $2, $1, $3 }')
}

table() {
    printf '\n%s, depth %s, connections %s, %s bytes; all beside nbdkit file\n\n' "$@"
    printf '| server | requests a second | processor time a request |\n|---|---|---|\n'
    for name in sluice-0 qemu $SERVERS; do
        table_row "$name"
    done
}

check_promises() {
    case "$1 $2 $3 $4" in
    "randread 1 1 4096" | "randread 32 1 4096" | "randwrite 1 1 4096" | "randwrite 32 1 4096")
        promise sluice-0 file 0.95 "$1 at depth $2"
        ;;
    esac
    [ "$1 $2 $3 $4" != "randread 32 1 4096" ] || promise sluice-0 qemu 2 "$1 at depth $2"
}

start_servers
echo "$LOADS" >"$work/loads"
while read -r operation depth connections block; do
    measure "$operation" "$depth" "$connections" "$block"
    table "$operation" "$depth" "$connections" "$block"
    check_promises "$operation" "$depth" "$connections" "$block"
done <"$work/loads"
printf '\n%s rounds of %s s on %s processors\n\n' "$PAIRS" "$SECONDS_EACH" "$(nproc)"
cat "$work/promises"
[ $missed -eq 0 ]

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The ratios that Sluice promises over NBD, with fio's nbd engine as the client: Sluice with an empty chain beside
# nbdkit file with the same threads and qemu-nbd, on the same file, in the page cache.  bench-nbd has more servers
# and slices fine enough for a busy machine; this one drives as others will.  Rounds are interleaved: the servers
# are loaded in turn, in an order that turns from round to round, and what is compared are runs of one round.
#
# Exits 1 when a promised ratio is missed, as bench-nbd.
#
# ROUNDS (9), SECONDS_EACH (1), LOADS: lines "operation depth connections", BENCH_DIR, SIZE: see bench-functions.sh
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
requires fio
: "${ROUNDS:=9}" "${SECONDS_EACH:=1}"
: "${LOADS:=randread 1 1
randread 32 1
randwrite 1 1
randwrite 32 1
randread 8 4}"

# fio_iops SERVER OPERATION DEPTH CONNECTIONS: requests a second of 4 KiB, all connections together.
fio_iops() {
    at=$(address "$1")
    fio --name=load --ioengine=nbd --uri="${at#*=}" --rw="$2" --bs=4k --iodepth="$3" --numjobs="$4" \
        --group_reporting --size="$SIZE" --time_based --runtime="$SECONDS_EACH" --randrepeat=0 \
        --output-format=json 2>>"$work/log" | sed -n '/^{/,$p' |
        jq -e '.jobs[0] | .read.iops + .write.iops' || fail "fio failed on $1"
}

# ratio NAME BASE: lower quartile, median and upper quartile over the rounds.
ratio() {
    paste "$work/$1.iops" "$work/$2.iops" | awk '{ print $1 / $2 }' | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.3f %.3f %.3f\n", v[int((NR + 3) / 4)], v[int((NR + 1) / 2)], v[int((3 * NR + 3) / 4)] }'
}

missed=0
# row BASE AT-LEAST LOAD...: one line of the table; AT-LEAST "-": no promise.
row() {
    base=$1 least=$2
    shift 2
    # shellcheck disable=SC2046
    set -- "$@" $(ratio sluice-0 "$base")
    verdict=
    if [ "$least" != - ]; then
        verdict=kept
        jq -en "$5 >= $least" >/dev/null || { verdict=MISSED; missed=$((missed + 1)); }
    fi
    printf '| %s, depth %s, connections %s | %s | %s (%s to %s) | %s | %s |\n' "$1" "$2" "$3" "$base" "$5" "$4" "$6" "$least" "$verdict"
}

least_beside_qemu() {
    case "$1 $2" in "randread 32" | "randread 8") echo 2 ;; *) echo - ;; esac
}

measure() {
    rm -f "$work"/*.iops
    order="file sluice-0 qemu"
    round=0
    while [ $round -lt "$ROUNDS" ]; do
        for name in $order; do
            fio_iops "$name" "$@" >>"$work/$name.iops"
        done
        order="${order#* } ${order%% *}"
        round=$((round + 1))
    done
}

make_image disk
sync "$work/disk.raw"
make_config
sluice_disk sluice-0 disk "" 0
serve
peer_nbdkit file file "$work/disk.raw"
peer_qemu qemu writeback threads
printf '| load, 4 KiB | beside | ratio (quartiles) | promised | |\n|---|---|---|---|---|\n'
echo "$LOADS" >"$work/loads"
while read -r operation depth connections; do
    measure "$operation" "$depth" "$connections"
    row file 0.95 "$operation" "$depth" "$connections"
    row qemu "$(least_beside_qemu "$operation" "$depth")" "$operation" "$depth" "$connections"
done <"$work/loads"
printf '\n%s rounds of %s s on %s processors\n' "$ROUNDS" "$SECONDS_EACH" "$(nproc)"
[ $missed -eq 0 ]

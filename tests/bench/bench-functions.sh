# SPDX-License-Identifier: BSD-3-Clause
# bench-functions.sh: sourced by the benchmarks that put Sluice beside other NBD servers.  Every server
# listens on a Unix socket in $work, serves disks of SIZE bytes (default 256M) made of data that is in the
# page cache, and ends with the benchmark.  BENCH_DIR says where (default: where temporary files go).
#
#   peer NAME COMMAND...   starts COMMAND and waits for the socket $work/NAME.sock
#   address NAME           NAME=URI for nbd-iops; Sluice's disks are called sluice-N by their filters
#   median                 of numbers, one a line
#   ratio, promise         of what nbd-iops printed into $work/result.json; kept ones and others in $work/promises
#   verdict                the same of any number
TMPDIR=${BENCH_DIR:-${TMPDIR:-/tmp}}
export TMPDIR
. "${top_srcdir:-.}/tests/functions.sh"
requires jq qemu-nbd nbdkit
: "${SIZE:=256M}"
THREADS=32
nbd_iops=$top_builddir/tests/tools/nbd-iops

# NAME.raw: bytes that no server can skip.
make_image() {
    [ -f "$work/$1.raw" ] || head -c "$(numfmt --from=iec "$SIZE")" /dev/urandom >"$work/$1.raw"
    cat "$work/$1.raw" >/dev/null
}

peer() {
    name=$1
    shift
    "$@" >>"$work/log" 2>&1 &
    eval "pid_$(echo "$name" | tr - _)=$!"
    children="$children $!"
    within 20 nbdinfo --size "nbd+unix:///?socket=$work/$name.sock" >/dev/null 2>&1 || fail "$name did not come up"
}

peer_nbdkit() {
    name=$1
    shift
    peer "$name" nbdkit -f -t $THREADS -U "$work/$name.sock" "$@"
}

peer_qemu() {
    peer "$1" qemu-nbd -t -e 32 -k "$work/$1.sock" --cache="$2" --aio="$3" --image-opts \
        "driver=raw,file.driver=file,file.locking=off,file.filename=$work/disk.raw"
}

# Disk sluice-N: N filters that let everything pass and ask for completions.
sluice_disk() {
    {
        echo "size: ${SIZE}iB"
        echo "backing: { file: $work/$2.raw${3:+, $3} }"
        echo "filters:"
        i=0
        while [ $i -lt "$4" ]; do
            echo "  - passthru: { name: pass-$i }"
            i=$((i + 1))
        done
    } | sed '$s/^filters:$/filters: []/' | disk "$1"
}

address() {
    case $1 in
    sluice-*) echo "$1=$(uri "$1")" ;;
    *) echo "$1=nbd+unix:///?socket=$work/$1.sock" ;;
    esac
}

# The median of numbers, one a line.
median() {
    sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# ratio FIELD NAME BASE: lower quartile, median and upper quartile of the rounds' ratios.
ratio() {
    jq -r --arg field "$1" --arg name "$2" --arg base "$3" '
        [.[$name][$field], .[$base][$field]] | transpose | map(if .[1] > 0 then .[0] / .[1] else 0 end) | sort |
        "\(.[length / 4 | floor]) \(.[length / 2 | floor]) \(.[length * 3 / 4 | floor])"' "$work/result.json"
}

missed=0
# verdict TEXT VALUE AT-LEAST
verdict() {
    if jq -en "$2 >= $3" >/dev/null; then
        printf 'kept: %s: %.3f, promised %s\n' "$1" "$2" "$3"
    else
        printf 'MISSED: %s: %.3f, promised %s\n' "$1" "$2" "$3"
        missed=$((missed + 1))
    fi >>"$work/promises"
}

# promise NAME BASE AT-LEAST TEXT
promise() {
    verdict "$1 : $2, $4" "$(ratio requests_a_second "$1" "$2" | cut -d' ' -f2)" "$3"
}
: >"$work/promises"

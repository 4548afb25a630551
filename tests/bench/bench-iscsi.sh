#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# bench-iscsi: iscsi-perf against Sluice and against tgt, in turn, on files of the same size in the same
# folder; medians of PAIRS (default 5) runs of SECONDS (default 4) each, and their ratios.
#
#     make bench-iscsi [PAIRS=5] [SECONDS_EACH=4]
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"
need iscsi-perf
export SLUICE_PLUGIN=$top_builddir/.libs/nbdkit-sluice-plugin.so SLUICE_FILTER_PATH=$top_builddir/.libs
pairs=${PAIRS:-5}
seconds=${SECONDS_EACH:-4}
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
is_answering() { "$top_builddir/sluice" status --config "$dir/etc" >/dev/null 2>&1; }
server gateway "$top_builddir/sluice" serve --config "$dir/etc"
until_true 20 is_answering || fail "the gateway does not start"
start_tgtd
ours=iscsi://$sluice_portal/iqn.2024-01.org.sluice:d/0
theirs=iscsi://$portal/$iqn/1

cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$(cat "$dir/$1.pid")/stat"; }

# run WHO URL OPTIONS...: "IOPS CPU-MICROSECONDS-PER-REQUEST"
run() {
    local who=$1 url=$2 before after iops
    shift 2
    before=$(cpu_ticks "$who")
    iops=$(iscsi-perf -i iqn.2001-04.com.example:bench -t "$seconds" "$@" "$url" 2>&1 | tr '\r' '\n' |
        sed -n 's/^iops average \([0-9]*\).*/\1/p')
    after=$(cpu_ticks "$who")
    [ -n "$iops" ] || fail "iscsi-perf says nothing of $url"
    echo "$iops $(awk "BEGIN { printf \"%.1f\", ($after - $before) * 1e6 / $(getconf CLK_TCK) / ($iops * $seconds) }")"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# compare NAME OPTIONS...
compare() {
    local name=$1 column
    shift
    : >"$dir/ours" >"$dir/theirs"
    for _ in $(seq "$pairs"); do
        run gateway "$ours" "$@" >>"$dir/ours"
        run tgtd "$theirs" "$@" >>"$dir/theirs"
    done
    for column in ours theirs; do
        cut -d' ' -f1 "$dir/$column" | median >"$dir/$column.iops"
        cut -d' ' -f2 "$dir/$column" | median >"$dir/$column.cpu"
    done
    awk -v name="$name" -v a="$(cat "$dir/ours.iops")" -v b="$(cat "$dir/theirs.iops")" \
        -v ca="$(cat "$dir/ours.cpu")" -v cb="$(cat "$dir/theirs.cpu")" \
        'BEGIN { printf "%-28s %8d IOPS %6.1f us   tgt %8d IOPS %6.1f us   ratio %.2f\n", name, a, ca, b, cb, a / b }'
}

echo "medians of $pairs pairs of $seconds s; us: CPU time of the server per request"
compare "4 KiB random, depth 1" -r -b 8 -m 1
compare "4 KiB random, depth 8" -r -b 8 -m 8
compare "4 KiB random, depth 32" -r -b 8 -m 32
compare "4 KiB random, depth 128" -r -b 8 -m 128
compare "64 KiB random, depth 8" -r -b 128 -m 8
compare "128 KiB sequential, depth 8" -b 256 -m 8
compare "1 MiB sequential, depth 4" -b 2048 -m 4

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# How many instructions a request costs the gateway process, the kernel's on its behalf among them: with no and
# with five filters that let everything pass and ask for completions.  Few machines let a test read the
# processor's own counter, so the gateway and its client run in a guest whose clock IS the number of instructions
# executed (QEMU's -icount shift=0: one nanosecond of guest time each); the processor time that the guest's kernel
# counts for the gateway is then its number of instructions, the same whatever else the machine does.
# (Copies are made without `rep movsb`, each step of which this clock would count.)
# bench-instructions counts those of the gateway's own code alone, and on the real processor.
#
# Exits 1 when five filters cost more than LIMIT (1.03) times the instructions of none.
# REQUESTS (4000) of a slice; SLICES (5), of which the medians are compared.
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
guest_requires
: "${LIMIT:=1.03}" "${REQUESTS:=4000}" "${SLICES:=5}"

disk_file() {
    printf 'size: 16MiB\nbacking: { file: /tmp/%s.raw }\nfilters: [%s]\n' "$1" "$2" >"$work/$1.yaml"
}

five() {
    for i in 1 2 3 4 5; do printf 'passthru: { name: pass-%s }, ' $i | sed 's/^\(.*\), $/{ \1 }, /'; done
}

cat >"$work/gateway.yaml" <<END
gateway: gw-guest
state: /tmp/state
listen: { nbd: ["unix:/tmp/nbd.sock"], control: "unix:/tmp/control.sock" }
END
disk_file none ""
disk_file five "$(five)"
guest_kernel
built=$(cd "$top_builddir" && pwd)
guest_archive "$work/archive" program:nbdkit "program:$built/sluice" "program:$built/tests/tools/nbd-iops" \
    "program:$SLUICE_PLUGIN" "program:$built/passthru.so" \
    "file:$work/gateway.yaml:etc/sluice/gateway.yaml" "file:$work/none.yaml:etc/sluice/disks.d/none.yaml" \
    "file:$work/five.yaml:etc/sluice/disks.d/five.yaml"
guest_accel=tcg,thread=single guest_boot "$work/archive" -icount shift=0,sleep=off -smp 1 -cpu max,-erms,-fsrm
guest 120 "ip link set lo up; for d in none five; do head -c 16777216 /dev/urandom >/tmp/\$d.raw; done" >/dev/null ||
    guest_fail "the guest has no disks"
iops=$built/tests/tools/nbd-iops
nbd='nbd+unix:///%s?socket=/tmp/nbd.sock'
guest_start "SLUICE_PLUGIN=$SLUICE_PLUGIN SLUICE_FILTER_PATH=$built $built/sluice serve --config /etc/sluice >/tmp/log 2>&1 &"
answers() {
    guest 120 "$iops --rounds 1 --requests 1 none='${nbd/\%s/none}' 2>&1" >"$work/answer"
}
within 120 answers || { guest 20 "cat /tmp/log" >&2; guest_fail "the gateway did not come up in the guest: $(cat "$work/answer")"; }

missed=0
printf '| operation | no filter | five filters | a filter | five : none | promised |\n|---|---|---|---|---|---|\n'
for operation in randread randwrite; do
    guest 600 "$iops --op $operation --rounds $SLICES --requests $REQUESTS none='${nbd/\%s/none}' five='${nbd/\%s/five}'" >"$work/result.json" ||
        guest_fail "the load failed: $(cat "$work/result.json")"
    row=$(jq -r --arg op "$operation" --arg limit "$LIMIT" 'def median: sort | .[length / 2 | floor];
        (.none.cpu_ns_a_request | median) as $none | (.five.cpu_ns_a_request | median) as $five |
        "| \($op) | \($none | round) | \($five | round) | \(($five - $none) / 5 | round) | \($five / $none * 1000 | round / 1000) | \($limit) |"' \
        "$work/result.json") || fail "no figures in $(cat "$work/result.json")"
    echo "$row"
    jq -e --argjson limit "$LIMIT" 'def median: sort | .[length / 2 | floor];
        (.five.cpu_ns_a_request | median) <= $limit * (.none.cpu_ns_a_request | median)' "$work/result.json" >/dev/null || missed=1
done
guest_off 60
exit $missed

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A replicated disk whose peer is 0, 1 and 20 ms further away (tests/tools/delay-proxy: what is sent is delayed, not
# thinned out), beside the same disk alone, loaded in turn by nbd-iops; then a steady load of two fifths of what the disk
# alone takes.
#
# Exits 1 when a promised ratio is missed, 4 KiB random writes:
#     async : the disk alone, depth 1                              >= 0.9
#     async : the disk alone, depth 32                             >= 0.45
#     sync  : one write at a time each round trip, depth 1, 20 ms  >= 0.9
#     sync  : 32 of them, depth 32, 20 ms                          >= 0.7
#     async : a load of 0.4 of the maximum, asked for              >= 0.9, and a backlog that does not grow
#
# PAIRS (15), SECONDS_EACH (0.3)   rounds, and the length of a slice
# LOAD_SECONDS (60)                of the steady load
# BENCH_DIR, SIZE                  see bench-functions.sh (SIZE: 64M)
: "${SIZE:=64M}" "${PAIRS:=15}" "${SECONDS_EACH:=0.3}" "${LOAD_SECONDS:=60}"
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires fio

make_pair
line_a=$(free_port) line_b=$(free_port)
sed -i "s/localhost:$port_b/localhost:$line_b/" "$work/gw-a/etc/gateway.yaml"
sed -i "s/localhost:$port_a/localhost:$line_a/" "$work/gw-b/etc/gateway.yaml"
mkfifo "$work/line"
"$top_builddir/tests/tools/delay-proxy" "$line_a:$port_a" "$line_b:$port_b" <"$work/line" &
children="$children $!"
exec 8>"$work/line"
replicated_disk sync 2f000000-0000-4000-8000-000000000001 "${SIZE}iB" ""
replicated_disk async 2f000000-0000-4000-8000-000000000002 "${SIZE}iB" "mode: async,"
printf 'size: %siB\nbacking: { file: %s/gw-a/alone.raw }\n' "$SIZE" "$work" >"$work/gw-a/etc/disks.d/alone.yaml"
is_streaming() {
    is_told gw-a "$1" link streaming
}
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
for disk in sync async; do
    on gw-a replication promote $disk --force >/dev/null || fail "$disk cannot be promoted"
    within 20 is_streaming $disk || fail "$disk is not replicated"
done
# As bench-replication: no page in the cache as the first copy has left it.
for path in "$work"/gw-?/*.raw; do
    dd of="$path" oflag=nocache conv=notrunc,fdatasync count=0 2>/dev/null
done

# measure DEPTH: into $work/result.json
measure() {
    "$nbd_iops" --op randwrite --depth "$1" --rounds "$PAIRS" --seconds "$SECONDS_EACH" alone="$(address_at gw-a alone)" \
        sync="$(address_at gw-a sync)" async="$(address_at gw-a async)" >"$work/result.json" || fail "the load failed"
}
writes_a_second() {
    jq ".$1.requests_a_second[]" "$work/result.json" | median
}

printf '\n4 KiB random writes, the peer further away\n\n| more round trip, ms | depth | alone, a second | sync, a second | '
printf 'sync : alone | async : alone | sync : what the line allows |\n|---|---|---|---|---|---|---|\n'
for ms in 0 1 20; do
    echo $((ms * 1000)) >&8
    for depth in 1 32; do
        measure $depth
        allowed=- sync=$(writes_a_second sync)
        [ $ms -eq 0 ] || allowed=$(jq -n "$sync * $ms / 1000 / $depth * 100 | round / 100")
        printf '| %s | %s | %.0f | %.0f | %.2f | %.2f | %s |\n' $ms $depth "$(writes_a_second alone)" "$sync" \
            "$(ratio requests_a_second sync alone | cut -d' ' -f2)" "$(ratio requests_a_second async alone | cut -d' ' -f2)" "$allowed"
        promise async alone "$([ $depth -eq 1 ] && echo 0.9 || echo 0.45)" "depth $depth, $ms ms"
        [ $ms -ne 20 ] || verdict "sync : what the line allows, depth $depth, $ms ms" "$allowed" \
            "$([ $depth -eq 1 ] && echo 0.9 || echo 0.7)"
        [ "$ms.$depth" != 0.32 ] || most=$(writes_a_second alone)
    done
done

# --- a steady load ---
echo 1000 >&8
wanted=$(jq -n "$most * 0.4 | round")
{
    fio --name=load --ioengine=nbd --uri="$(address_at gw-a async)" --rw=randwrite --bs=4k --iodepth=32 --size="$SIZE" --time_based \
        --runtime="$LOAD_SECONDS" --rate_iops="$wanted" --randrepeat=0 --output-format=json >"$work/fio.json" 2>>"$work/log"
    echo $? >"$work/fio.status"
} &
while [ ! -s "$work/fio.status" ]; do
    told gw-a async lag_bytes
    sleep 0.2 # an interval of the measurement
done >"$work/backlog"
[ "$(cat "$work/fio.status")" -eq 0 ] || fail "fio failed"
got=$(sed -n '/^{/,$p' "$work/fio.json" | jq '.jobs[0].write.iops')
count=$(wc -l <"$work/backlog")
early=$(sed -n "2,$((count / 3))p" "$work/backlog" | median)
late=$(sed "1,$((count * 2 / 3))d" "$work/backlog" | median)
printf '\nasync, 1 ms, %s writes a second asked for, %s s: %.0f a second; backlog %.0f KiB in the first third, %.0f in the last\n' \
    "$wanted" "$LOAD_SECONDS" "$got" "$(jq -n "$early / 1024")" "$(jq -n "$late / 1024")"
verdict "async : 0.4 of the maximum, asked for" "$(jq -n "$got / $wanted")" 0.9
verdict "backlog of the first third and 1 MiB : of the last" "$(jq -n "($early + 1048576) / ([$late, 1] | max)")" 1
printf '\n%s rounds of %s s on %s processors\n\n' "$PAIRS" "$SECONDS_EACH" "$(nproc)"
cat "$work/promises"
[ $missed -eq 0 ]

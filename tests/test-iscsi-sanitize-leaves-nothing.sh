#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# SANITIZE: a marker that was written all over the disk is afterwards found in nothing that the gateway keeps:
# not in the backing, not in the cache's tier (write-back with all of it dirty, or clean), not in the state
# folder, where the record of an atomic write was.  Killed again and again in the middle it goes on at the next
# start, and the disk is not ready until it has ended.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq python3
mkdir "$work/ssd" "$work/kept"
make_iscsi_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
sed -i "s|$work/state|$work/kept/state|" "$config/gateway.yaml"
marker=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
# policy [FILTER]: what stands below the cache
policy() {
    disk d <<END
size: 16MiB
backing: { file: $work/kept/d.raw }
filters:
  - cache: { mode: write-back, ram: 1MiB, ssd: { tier: ssd0, size: 32MiB }, destage: { after: 3600s } }
  $1
export: { iscsi: { target: d, erase: true } }
END
}

initiator() {
    PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 timeout 300 $python "$top_srcdir/tests/iscsi-sanitize.py" \
        "$port" "$prefix:d" "$@" || fail "the initiator: $*"
}
found_in() { grep -rlaF "$marker" "$work/ssd" "$work/kept" | sed "s|^$work/||" | tr '\n' ' '; }
lines_in() { grep -caF "$marker" "$1" || true; }
is_ordered() { [ -n "$(find "$work/kept" -name sanitize)" ]; }
# filled COMMAND: the marker is all over; after COMMAND it has been where it must not stay.
filled() {
    initiator fill "$marker" 16
    $1
    [ "$(lines_in "$(echo "$work"/ssd/*)")" -gt 0 ] || fail "the marker never was on the tier"
    [ "$(lines_in "$(find "$work/kept" -name atomic-redo)")" -gt 0 ] || fail "the marker is in no record"
}
destaged() {
    sluice cache flush d
    [ "$(lines_in "$work/kept/d.raw")" -gt 0 ] || fail "the marker never was in the backing"
}
is_gone() {
    ! is_ordered || fail "$1: the order is still there"
    left=$(found_in)
    [ -z "$left" ] || fail "$1: the marker is still in $left"
    echo "$1: nothing left"
}

policy ""
serve
filled true
initiator overwrite
initiator wait
is_gone "dirty, overwrite"
[ "$(od -An -v -tx4 --endian=big -w4 "$work/kept/d.raw" | sort -u | tr -d ' ')" = 55aa33cc ] ||
    fail "the backing lacks the pattern"

filled destaged
initiator erase
initiator wait
is_gone "clean, block erase"

# What a filter left behind that the disk has no more: nobody would erase that.
left_behind=$(dirname "$(find "$work/kept" -name atomic-redo)")/filters/gone
mkdir -p "$left_behind"
echo "$marker" >"$left_behind/journal"
initiator refused
grep -q "$left_behind is left of a filter" "$work/log" || fail "the log does not say why"
! is_ordered || fail "an order that was refused stands"
rm -r "$left_behind"
initiator erase
initiator wait
is_gone "after something was left behind"
stop TERM

# The backing is slow, so that the old bytes are there when the kill comes.
policy "- qos: { at: backing, write_bandwidth: 4MiB/s }"
serve
filled true
initiator overwrite
for i in $(seq "${KILLS:-6}"); do
    is_ordered || fail "the erasure has ended before kill $i"
    stop KILL
    serve
done
initiator wait
is_gone "killed ${KILLS:-6} times"
stop TERM

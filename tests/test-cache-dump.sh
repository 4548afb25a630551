#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A tier whose gateway was killed is read by sluice-cache-dump and by a reader written from docs/cache-format.md
# alone: both find the same blocks in the same places, and the data there is the disk's.  Once with a log alone,
# once with a checkpoint below it, once `ordered`.  No tier, a torn superblock, a log cut short: refused.
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdcopy nbdsh
dump=$top_builddir/filters/cache/sluice-cache-dump
make_config
with_options() {
    disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 1MiB, ssd: { path: $work/tier, size: 4MiB }, destage: { after: 1h }$1 }
END
}
with_options ''
# A load alone may find everything destaged at its end, and so may a copy of the disk: its reads fill the log.
leave_dirty() {
    qemu-io -f raw "$(uri d)" -c "write -P $1 1M 64k" -c flush >/dev/null || fail "qemu-io"
}
agree() {
    nbdcopy "$(uri d)" "$work/disk.$1" || fail "nbdcopy"
    leave_dirty "$2"
    stop KILL
    "$dump" "$work/tier" >"$work/dump.$1" || fail "$1: the dump failed"
    grep '^block ' "$work/dump.$1" >"$work/map"
    $python "$top_srcdir/tests/cache-tier.py" "$work/tier" "$work/disk.$1" >"$work/map.python" || fail "$1: the other reader"
    cmp "$work/map" "$work/map.python" || fail "$1: the readers do not agree: $(diff "$work/map" "$work/map.python" | head)"
    echo "$1: $(grep -c dirty "$work/map") dirty and $(grep -c clean "$work/map") clean blocks," \
        "$(sed -n 's/^checkpoint_entries //p' "$work/dump.$1") of a checkpoint"
}
serve
"$nbd_load" "$(uri d)" --seconds 1 --flush-every 64 >"$work/load" || fail "the load failed: $(cat "$work/load")"
leave_dirty 6
agree "after a load" 6
serve
leave_dirty 7
agree "after a restart" 7
[ "$(sed -n 's/^checkpoint_entries //p' "$work/dump.after a restart")" -gt 0 ] || fail "no checkpoint was read"
# In order: what was brought to the backing is known by chunks, not by segments.
with_options ', ordered: true'
serve
leave_dirty 8
qemu-io -f raw "$(uri d)" -c "write -P 9 3M 64k" -c flush >/dev/null || fail "qemu-io"
# One client writes both and does not leave: no checkpoint knows of them.
leave_dirty() {
    nbdsh -u "$(uri d)" -c "
import os, subprocess
h.pwrite(b'\x09' * 65536, 3 << 20); h.flush()
subprocess.check_call(['$sluice_program', 'cache', 'flush', '--config', '$config', 'd'])
h.pwrite(b'\x08' * 65536, 1 << 20); h.flush()
os.kill($gateway, 9)" >/dev/null || fail "nbdsh"
}
agree "in order" 8
[ "$(grep -c dirty "$work/map")" = 16 ] || fail "in order: $(grep -c dirty "$work/map") blocks are said to be dirty, not 16"
[ "$(sed -n 's/^order_from //p' "$work/dump.in order")" -gt 0 ] || fail "the tier does not say that it is ordered"

refused() {
    said=$("$dump" "$1" 2>&1 >"$work/out") && fail "$1 was taken for a tier"
    [ "$said" = "sluice-cache-dump: $2" ] || fail "$1: said: $said"
}
head -c 1M /dev/zero >"$work/zeros"
refused "$work/zeros" "not a tier of the cache"
cp "$work/tier" "$work/short"
truncate -s -4096 "$work/short" # the last segment may never have been written
refused "$work/short" "the file is shorter than its superblock says"
refused "$work/nowhere" "No such file or directory"

# The command line finds the tool, beside itself or in PATH.
PATH=$top_builddir/filters/cache:$PATH "$sluice_program" cache dump "$work/tier" >"$work/by-verb" || fail "sluice cache dump"
cmp "$work/by-verb" "$work/dump.in order" || fail "sluice cache dump prints something else"

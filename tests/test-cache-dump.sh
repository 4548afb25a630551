#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A tier whose gateway was killed is read by sluice-cache-dump and by a reader written from docs/cache-format.md
# alone: both find the same blocks in the same places, and the data there is the disk's.  Once with a log alone,
# once with a checkpoint below it.  No tier, a torn superblock, a log cut short: refused.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdcopy
dump=$top_builddir/filters/cache/sluice-cache-dump
make_config
disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 1MiB, ssd: { path: $work/tier, size: 4MiB }, destage: { after: 1h } }
END
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
cmp "$work/by-verb" "$work/dump.after a restart" || fail "sluice cache dump prints something else"

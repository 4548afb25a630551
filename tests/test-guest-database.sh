#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# SQLite in a Linux guest inserts rows, each committed, on a disk with a write-back cache over a backing that takes
# 5 ms a request, while the gateway is killed -9 GUEST_KILLS times (default 3).  Every row whose commit returned is
# there, read from the disk by the guest and from the backing's image by the host when the cache has been emptied,
# and both find the data base whole.  Prints the commits a second on that disk and on one without the cache.
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
guest_requires jq nbdkit mkfs.ext4 e2fsck debugfs
kills=${GUEST_KILLS:-3}
rows=${GUEST_ROWS:-40}
guest_kernel
guest_packages sqlite3 libsqlite3-0 libreadline8
guest_archive "$work/archive" module:virtio_pci module:virtio_blk module:ext4 program:mkfs.ext4 program:sqlite3 \
    file:/etc/mke2fs.conf:/etc/mke2fs.conf file:"$top_srcdir"/tests/guest/insert-rows:/bin/insert-rows

# The guest's own words, and the gateway's, say why.
complain() {
    guest 60 'dmesg' >&2
    sluice disk show cached >&2
    cat "$dir"/*.log >&2
    guest_fail "$@"
}

# --- two slow disks, one with a cache ----------------------------------------------------------------------
is_there() { test -S "$dir/$1.sock"; }
for name in cached bare; do
    truncate -s 128M "$dir/$name.raw"
    server $name nbdkit -f -t 32 -U "$dir/$name.sock" --filter=delay file "$dir/$name.raw" rdelay=5ms wdelay=5ms
    within 20 is_there $name || fail "no nbdkit"
done
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
disk cached <<<"{ backing: { nbd: 'nbd+unix:///?socket=$dir/cached.sock' },
    filters: [ cache: { ram: 4MiB, ssd: { tier: ssd0, size: 32MiB }, destage: { after: 300ms } } ] }"
disk bare <<<"{ backing: { nbd: 'nbd+unix:///?socket=$dir/bare.sock' }, filters: [] }"
serve
drives=()
for name in cached bare; do # in the guest vda and vdb
    # shellcheck disable=SC2207
    drives+=($(sluice disk show $name --connect qemu | sed '/^#/d; s/\\$//'))
done
guest_boot "$work/archive" "${drives[@]}"
guest 60 'dmesg -c >/dev/null'
# All of the file system is made now, so that nothing writes behind the data base's back.
for d in a b; do
    guest 180 "mkdir /mnt/$d && mkfs.ext4 -q -b 4096 -N 1024 -E lazy_itable_init=0,lazy_journal_init=0 /dev/vd$d && mount -t ext4 /dev/vd$d /mnt/$d" || guest_fail "no file system"
done
echo "two file systems: $SECONDS s"

# --- commits a second ----------------------------------------------------------------------------------------
# speed DISK ROWS: inserts them and prints how many were committed in a second.  The first few find programs and
# file system cold.
speed() {
    guest 300 "sh /bin/insert-rows /mnt/$1/base 20; sh /bin/insert-rows /mnt/$1/base $2" | tail -n 1 >"$work/rows"
    awk 'NF == 3 { printf "%.1f\n", $2 * 100 / ($3 + 1) }' "$work/rows"
}
without=$(speed b "$rows") with=$(speed a $((5 * rows)))
[ -n "$with" ] && [ -n "$without" ] || complain "no speed: $(cat "$work/rows")"
echo "commits a second over a backing of 5 ms: $with with the cache, $without without: $SECONDS s"

# --- killed ----------------------------------------------------------------------------------------------------
guest_start 'sh /bin/insert-rows /mnt/a/base 1000000 >/tmp/rows 2>&1 & true'
# The counters begin anew with each gateway.
has_written() {
    sluice disk show cached --json 2>/dev/null | jq -e '.io.operations.write.bytes >= 1048576' >"$work/amid"
}
for i in $(seq "$kills"); do
    within 120 has_written || guest_fail "kill $i: the guest does not write"
    guest_is_alive || guest_fail "kill $i: the guest is gone"
    stop KILL
    serve
done
within 120 has_written || guest_fail "the guest does not write after the last kill"
guest 120 'touch /tmp/enough; until [ -s /tmp/rows ]; do sleep 0.1; done; cat /tmp/rows' >"$work/rows"
committed=$(awk 'NF == 3 { print $1 }' "$work/rows")
[ -n "$committed" ] && [ "$committed" -gt "$rows" ] || complain "a row was refused: $(cat "$work/rows")"
echo "$kills kills amid $committed commits: $SECONDS s"

# --- all is there ----------------------------------------------------------------------------------------------
# Nothing of it is in the guest's memory any more; the words of a row tell whether it is the right one.
check='PRAGMA integrity_check; SELECT count(*), min(number), max(number) FROM kept; SELECT count(*) FROM kept WHERE words IS NOT printf("%0*d", 100 + number % 900, number);'
printf 'ok\n%s|1|%s\n0\n' "$committed" "$committed" >"$work/wanted"
guest 120 "umount /mnt/a && echo 3 >/proc/sys/vm/drop_caches && mount -t ext4 -o ro /dev/vda /mnt/a && sqlite3 /mnt/a/base '$check'" >"$work/seen"
diff "$work/wanted" "$work/seen" || guest_fail "the guest does not find what it committed"
guest 60 'umount /mnt/a /mnt/b && dmesg' >"$work/dmesg" || guest_fail "not unmounted"
grep -iE 'error|fail|corrupt|abort|blocked|hung|timed out|warning|bug' "$work/dmesg" && fail "the guest complained"
guest_off 60
sluice cache flush cached >/dev/null || fail "the cache cannot be emptied"
stop TERM
e2fsck -fn "$dir/cached.raw" >"$work/e2fsck" 2>&1 || fail "the backing: $(cat "$work/e2fsck")"
debugfs -R "dump /base $work/base" "$dir/cached.raw" 2>"$work/debugfs" || fail "debugfs: $(cat "$work/debugfs")"
$python - "$work/base" "$check" >"$work/seen" <<'END' || fail "the data base cannot be opened"
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
for statement in sys.argv[2].split(";")[:3]:
    print("|".join(str(x) for x in base.execute(statement).fetchone()))
END
diff "$work/wanted" "$work/seen" || fail "the backing does not hold what was committed"
echo "$committed rows, each where it has to be: $SECONDS s"

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A Linux guest mounts a disk as `sluice disk show --connect qemu` says, makes a file system, unpacks
# the kernel package's own files and checks them, over and over, and keeps a log of stable records,
# while the gateway is ended RESTARTS times by SIGTERM and as often by kill -9 (default 20), each time
# amid its writes.  The guest sees no error; after it has shut down the host finds a clean file system,
# every file's sum and every record, and what the guest trimmed is a hole.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
guest_requires jq mkfs.ext4 e2fsck debugfs
restarts=${RESTARTS:-20}
guest_kernel
guest_files "$work/files.tar"
guest_archive "$work/archive" module:virtio_pci module:virtio_blk module:ext4 program:mkfs.ext4 \
    file:/etc/mke2fs.conf:/etc/mke2fs.conf file:"$top_srcdir"/tests/guest/unpack-forever:/bin/unpack-forever \
    file:"$top_srcdir"/tests/guest/record-forever:/bin/record-forever

make_config
disk d <<END
size: 1GiB
backing: { file: $work/d.raw }
filters:
  - qos: { iops: 100000 }
  - passthru: {}
  - delay: { op: write, time: 10ms, declared: true } # so that there are requests to lose
END
serve
# What is printed is what is used: options to paste, continued with backslashes.
# shellcheck disable=SC2046
set -- $(sluice disk show d --connect qemu | sed '/^#/d; s/\\$//')
echo "mounted with: $*"
guest_boot "$work/archive" "$@" -drive "if=virtio,format=raw,readonly=on,file=$work/files.tar"
echo "up after $SECONDS s"

# From here on the guest's log has to stay free of complaints.  Dirty pages are written soon.
guest 60 'dmesg -c >/dev/null; echo 4194304 >/proc/sys/vm/dirty_bytes; cat /proc/partitions'
guest 120 'mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt' || guest_fail "no file system"
guest_start 'sh /bin/unpack-forever /mnt/unpacked /dev/vdb >/tmp/unpack 2>&1 & sh /bin/record-forever /mnt/records >/tmp/records 2>&1 & true'

# The counters begin anew with each gateway.
is_amid_writes() {
    sluice disk show d --json 2>/dev/null | jq -e '.io | .operations.write.bytes >= 131072 and .in_flight > 0' >"$work/amid"
}
for i in $(seq "$restarts"); do
    for signal in TERM KILL; do
        within 60 is_amid_writes || guest_fail "restart $i: the guest does not write"
        guest_is_alive || guest_fail "restart $i: the guest is gone"
        stop $signal
        serve
    done
done
within 60 is_amid_writes || guest_fail "the guest does not write after the last restart"
echo "$((2 * restarts)) restarts amid writes: $SECONDS s"

guest 120 'touch /tmp/enough; wait; cat /tmp/unpack; ! grep -v "^unpacked" /tmp/unpack' || guest_fail "a wrong file"
guest 60 'cat /tmp/records' >"$work/records"
records=$(cat "$work/records")
[ "$records" -ge "$restarts" ] || guest_fail "a record was refused: $records"
# The last tree stays; the space of the one that goes is given back.
guest 120 'mkdir /mnt/tree && cd /mnt/tree && tar x -f /dev/vdb && sync; rm -rf /mnt/unpacked; cd /; sync; fstrim -v /mnt' ||
    guest_fail "the last tree"
guest 120 'umount /mnt && mount -t ext4 -o ro /dev/vda /mnt && cd /mnt/tree && sha256sum -c SHA256SUMS >/tmp/sums
    code=$?; grep -v ": OK$" /tmp/sums; cd /; umount /mnt && [ $code = 0 ]' || guest_fail "a wrong byte"
guest 60 'dmesg' >"$work/dmesg"
cat "$work/dmesg"
grep -iE 'error|fail|corrupt|abort|blocked|hung|timed out|read-only|warning|bug' "$work/dmesg" && fail "the guest complained"
guest_off 60
stop TERM
echo "shut down after $SECONDS s"

e2fsck -fn "$work/d.raw" || fail "the file system is not clean"
mkdir "$work/out"
debugfs -R "rdump /tree /records $work/out" "$work/d.raw" 2>"$work/debugfs.log" || fail "debugfs: $(cat "$work/debugfs.log")"
(cd "$work/out/tree" && sha256sum -c --quiet SHA256SUMS) || fail "a file is not what was unpacked"
[ "$(find "$work/out/tree" -name '*.ko' | wc -l)" -ge 100 ] || fail "that is no tree"
awk '$1 != NR || length != 4095 { print "record " NR ": " $1; exit 1 }' "$work/out/records" || fail "a record is wrong"
[ "$(wc -l <"$work/out/records")" = "$records" ] || fail "$(wc -l <"$work/out/records") records, not $records"
used=$(($(stat -c %b "$work/d.raw") / 2048))
echo "$records records, image $used MiB"
# 79 MiB with one tree of 45 MiB on it.
[ $used -lt 110 ] || fail "the guest's trims did not come through: the image takes $used MiB"

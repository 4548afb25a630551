#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot on XFS is the disk at one instant, under its own name, and never replaces one; a block
# device is served with trim, zeros and growth, and its snapshot is refused with nothing made beside
# the device; the state notices another device.  Loop devices and mounts of the test's own.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq qemu-io nbdinfo losetup mkfs.xfs nbdcopy

mkdir "$work/xfs"
truncate -s 400M "$work/xfs.img"
truncate -s 64M "$work/device.img"
unmount() {
    kill -9 "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null
    umount "$work/xfs" 2>/dev/null
    [ -z "${device:-}" ] || losetup -d "$device"
}
trap 'status=$?; unmount; (exit $status); cleanup' EXIT
mkfs.xfs -q "$work/xfs.img" || fail "mkfs.xfs"
if ! mount -o loop "$work/xfs.img" "$work/xfs" 2>"$work/err" || ! device=$(losetup -f --show "$work/device.img" 2>"$work/err"); then
    echo "this machine gives no loop device: $(cat "$work/err")"
    exit 77
fi

make_config
disk plain <<END
size: 16MiB
backing: { file: $work/xfs/plain.raw }
END
disk device <<END
backing: { file: $device }
END
serve
io() {
    name=$1
    shift
    qemu-io -f raw "$(uri "$name")" "$@" >"$work/io" 2>&1 || fail "qemu-io $*: $(cat "$work/io")"
    grep -qi "pattern verification failed" "$work/io" && fail "$name: $* reads other bytes"
    return 0
}

# --- snapshot ---
io plain -c "write -P 0x11 0 1M"
sluice disk snapshot plain monday || fail "no snapshot on XFS"
io plain -c "write -P 0x22 0 1M" -c "read -P 0x22 0 1M"
qemu-io -r -f raw "$work/xfs/plain.raw.monday" -c "read -P 0x11 0 1M" >"$work/io" 2>&1
grep -qi "verification failed" "$work/io" && fail "the snapshot changed with the disk"
[ "$(stat -c %s "$work/xfs/plain.raw.monday")" = $((16 << 20)) ] || fail "the snapshot has another size"
before=$(sha256sum <"$work/xfs/plain.raw.monday")
sluice disk snapshot plain monday 2>"$work/err" && fail "a snapshot was replaced"
grep -q "plain.raw.monday" "$work/err" || fail "no reason: $(cat "$work/err")"
[ "$(sha256sum <"$work/xfs/plain.raw.monday")" = "$before" ] || fail "a refused snapshot changed the old one"
sluice disk snapshot plain ../escape 2>"$work/err" && fail "a snapshot left its folder"
[ -e "$work/xfs/escape" ] || [ -e "$work/escape" ] && fail "a file outside"

# --- block device ---
io device -c "write -P 0x33 0 64k" -c "write -z -u 16k 16k" -c "discard 32k 16k" -c "flush" \
    -c "read -P 0x33 0 16k" -c "read -P 0 16k 16k" -c "read -P 0x33 48k 16k"
blocks=$(stat -c %b "$work/device.img")
io device -c "discard 0 64k"
within 5 sh -c "[ \$(stat -c %b '$work/device.img') -lt $blocks ]" || fail "a trim did not reach the device"
sluice disk snapshot device monday 2>"$work/err" && fail "a snapshot of a block device"
grep -q "block device" "$work/err" || fail "no reason: $(cat "$work/err")"
[ ! -e "$device.monday" ] || fail "something was made beside the device"

# It grows under the gateway: a reload sees it, and so does the next client.
truncate -s 96M "$work/device.img"
losetup -c "$device"
sluice disk resize device 96MiB || fail "the device did not grow"
[ "$(nbdinfo --size "$(uri device)")" = $((96 << 20)) ] || fail "the next client sees $(nbdinfo --size "$(uri device)")"
io device -c "write -P 0x44 95M 1M" -c "read -P 0x44 95M 1M"
stop

# Another device in its place is no disk of ours.
sed -i "s,$device,$work/other.raw," "$config/disks.d/device.yaml"
truncate -s 96M "$work/other.raw"
serve
nbdinfo "$(uri device)" >/dev/null 2>&1 && fail "another backing was served"
sluice status 2>/dev/null | grep -q "device" || fail "status does not name the disk"
stop

# The same of a plugin's file: the plugin is the same, what it serves is not.
truncate -s 4M "$work/one.raw" "$work/two.raw"
disk plugged <<END
backing: { nbdkit: { plugin: file, args: { file: $work/one.raw } } }
END
serve
io plugged -c "write -P 0x55 0 64k"
stop
sed -i "s,one.raw,two.raw," "$config/disks.d/plugged.yaml"
serve
nbdinfo "$(uri plugged)" >/dev/null 2>&1 && fail "another file of the plugin was served"
sluice disk show plugged 2>&1 | grep -q "is another one than before (was nbdkit plugin file: file=$work/one.raw, is .*two.raw)" ||
    fail "the reason: $(sluice disk show plugged 2>&1)"
stop

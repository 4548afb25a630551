#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# One Linux guest with a disk over each kind of remote backing: NBD (qemu-nbd), iSCSI (tgt), nbdkit's memory and
# ssh plugins, and an NBD server that is killed and comes back while the guest writes.  On each it makes a file
# system, unpacks the kernel package's own files and checks their sums, over and over; the gateway is killed -9
# and comes back too (but not under the memory plugin's disk, whose bytes die with it: that one rests by then).
# The guest sees no error; every sum is right; the images behind hold clean file systems.
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"
. "$top_srcdir/tests/functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
guest_requires jq mkfs.ext4 e2fsck nbdkit qemu-nbd ssh-keygen sshd
kills=${KILLS:-4}
size=$((160 * 1024 * 1024))
guest_kernel
guest_files "$work/files.tar" lib crypto
guest_archive "$work/archive" module:virtio_pci module:virtio_blk module:ext4 program:mkfs.ext4 program:e2fsck \
    file:/etc/mke2fs.conf:/etc/mke2fs.conf file:"$top_srcdir"/tests/guest/unpack-forever:/bin/unpack-forever

# --- the servers ---------------------------------------------------------------------------------------
for image in nbd.raw ssh.raw dies.raw lun; do truncate -s $size "$dir/$image"; done
is_there() { test -S "$dir/$1.sock"; }
server nbd qemu-nbd -t -f raw --discard=unmap -k "$dir/nbd.sock" "$dir/nbd.raw"
start_dies() {
    rm -f "$dir/dies.sock"
    server dies nbdkit -f -U "$dir/dies.sock" file "$dir/dies.raw"
}
start_dies
start_tgtd
start_sshd # of tests/backing-functions.sh
within 20 is_there nbd || fail "no qemu-nbd"
within 20 is_there dies || fail "no nbdkit"

# --- the gateway and the guest -------------------------------------------------------------------------------
make_config
with="filters: [ { qos: { iops: 100000 } }, { passthru: {} } ]"
disk memory <<<"{ backing: { nbdkit: { plugin: memory, args: { size: '$size' } } }, $with }"
disk nbd <<<"{ backing: { nbd: 'nbd+unix:///?socket=$dir/nbd.sock' }, $with }"
disk dies <<<"{ backing: { nbd: 'nbd+unix:///?socket=$dir/dies.sock' }, $with }"
disk iscsi <<<"{ backing: { iscsi: 'iscsi://$portal/$iqn/1' }, $with }"
disk ssh <<<"{ backing: { nbdkit: { plugin: ssh, args: { host: 127.0.0.1, port: '$ssh_port', path: $dir/ssh.raw, user: root, identity: $dir/user, known-hosts: $dir/known } } }, $with }"
serve
drives=()
for name in memory nbd dies iscsi ssh; do # in the guest vda to vde; vdf is the archive
    # shellcheck disable=SC2207
    drives+=($(sluice disk show $name --connect qemu | sed '/^#/d; s/\\$//'))
done
guest_boot "$work/archive" "${drives[@]}" -drive "if=virtio,format=raw,readonly=on,file=$work/files.tar"
guest 60 'dmesg -c >/dev/null; echo 4194304 >/proc/sys/vm/dirty_bytes'
guest 180 'for d in a b c d e; do mkdir /mnt/$d && mkfs.ext4 -q /dev/vd$d && mount -t ext4 /dev/vd$d /mnt/$d || exit 1; done' ||
    guest_fail "no file system"
# start DISK... : it unpacks and checks until /tmp/enough-DISK exists.
start() {
    for d; do
        guest_start "sh /bin/unpack-forever /mnt/$d/tree /dev/vdf /tmp/enough-$d >/tmp/unpack-$d 2>&1 &"
    done
}
# finish DISK...: how often each has, or what went wrong; unmounts it.
finish() {
    guest 240 "touch $(printf '/tmp/enough-%s ' "$@"); for d in $*; do while ! [ -s /tmp/unpack-\$d ]; do sleep 0.1; done; cat /tmp/unpack-\$d; done" >"$work/finished"
    cat "$work/finished"
    [ "$(grep -c '^unpacked and checked [1-9][0-9]* times' "$work/finished")" = $# ] || guest_fail "a wrong file"
    guest 120 "for d in $*; do umount /mnt/\$d || exit 1; done" || guest_fail "a file system cannot be unmounted"
}
written() { sluice disk show "$1" --json | jq .io.operations.write.bytes; }
has_written() { [ "$(written "$1")" -gt "$written_from" ]; }
# amid_writes DISK: waits until it has written some more.
amid_writes() {
    written_from=$(($(written "$1") + 262144))
    within 120 has_written "$1" || guest_fail "the guest does not write to $1"
}

start a c
for i in $(seq $kills); do
    amid_writes dies
    kill_server dies
    start_dies
done
amid_writes memory
finish a c
reconnects=$(sluice disk show dies --json | jq .backing.reconnects)
[ "$reconnects" -ge $kills ] || fail "the gateway counts only $reconnects reconnects"
guest 120 'e2fsck -fn /dev/vda' || guest_fail "over the memory plugin: the file system is not clean"
echo "memory; an NBD server killed $kills times: $SECONDS s"

start b d e
for i in $(seq $kills); do
    for name in nbd iscsi ssh; do amid_writes $name; done
    stop KILL
    serve
done
for name in nbd iscsi ssh; do amid_writes $name; done
finish b d e
echo "NBD, iSCSI, ssh; the gateway killed $kills times: $SECONDS s"

guest 60 'dmesg' >"$work/dmesg"
grep -iE 'error|fail|corrupt|abort|blocked|hung|timed out|read-only|warning|bug' "$work/dmesg" && fail "the guest complained"
guest_off 60
stop TERM
for image in nbd.raw dies.raw lun ssh.raw; do
    e2fsck -fn "$dir/$image" >"$work/e2fsck" 2>&1 || fail "$image: $(cat "$work/e2fsck")"
done
echo "four clean images behind; $SECONDS s"

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A Linux guest has a replicated disk by two paths, one through each gateway of a pair: open-iscsi and dm-multipath as
# `sluice disk show --connect linux` sets them up, udev and multipathd of Debian.  It unpacks files and checks their sums,
# over and over, and keeps a log of stable records, while the disk is handed over to and fro and, KILLS times (1), the
# primary is killed -9 and the other promoted by force: no error in the guest, no wrong byte, nothing set up anew.
# Prints how long it took from each of them to the first write at the other gateway.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
. "$top_srcdir/tests/guest/failover-functions.sh"
guest_requires jq mkfs.ext4 e2fsck
kills=${KILLS:-1}
guest_kernel
guest_packages open-iscsi libopeniscsiusr libisns0 multipath-tools udev dmsetup libdevmapper1.02.1 libaio1 libjson-c5 liburcu8 \
    libkmod2 libedit2 libbsd0 libmd0
guest_files "$work/files.tar" lib

# --- the pair ----------------------------------------------------------------------------------------------
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
add_portals
# Slow enough that there are writes to lose.
pair_disk vm <<END
size: 192MiB
uuid: 1f000000-0000-4000-8000-000000000001
backing: { file: @HERE@/vm.raw }
filters:
  - delay: { op: write, time: 2ms, declared: true }
  - replication: { peer: @PEER@, peer_timeout: 300ms, peer_wait: 1s }
END
start_pair

# --- the guest ---------------------------------------------------------------------------------------------
target=iqn.2024-01.org.sluice:1f000000-0000-4000-8000-000000000001
for name in gw-a gw-b; do on $name disk show vm --connect linux || fail "no kit of $name"; done >"$work/kit"
# The guest's network reaches this host as 10.0.2.2, and the kit says that the other path shall be tried sooner.
sed -i "s/127\.0\.0\.1:/10.0.2.2:/; s/replacement_timeout -v 120/replacement_timeout -v 5/" "$work/kit"
# The guest's other disk is no path to anything.
cat >"$work/multipath.conf" <<END
defaults {
    find_multipaths no
    polling_interval 1
}
blacklist {
    devnode "^vd"
}
END
printf 'iscsid.startup = /bin/true\nnode.startup = manual\n' >"$work/iscsid.conf"
echo root:x:0:0:root:/:/bin/sh >"$work/passwd" # iscsid obeys root, by name
echo "InitiatorName=iqn.2001-04.com.example:guest" >"$work/initiatorname"
items=
for name in 50-udev-default 55-dm 56-dm-mpath 60-block 60-multipath 60-persistent-storage 60-persistent-storage-dm 95-dm-notify; do
    items="$items file:$guest_unpacked/lib/udev/rules.d/$name.rules:/lib/udev/rules.d/$name.rules"
done
for name in libchecktur libprioalua libprioconst; do
    items="$items file:$guest_unpacked/lib/multipath/$name.so:/lib/multipath/$name.so"
done
for name in virtio_pci virtio_blk virtio_net ext4 crc32c_generic iscsi_tcp sd_mod sg dm-multipath dm-service-time scsi_dh_alua; do
    items="$items module:$name"
done
for name in iscsid iscsiadm mkfs.ext4 udevadm multipathd multipath dmsetup; do items="$items program:$name"; done
# multipathd opens it when it ends a thread.
libgcc=$(ldconfig -p | sed -n 's/.*libgcc_s\.so\.1 .*x86-64.*=> //p' | head -n 1)
# shellcheck disable=SC2086
guest_archive "$work/archive" $items file:"$libgcc":/lib/x86_64-linux-gnu/libgcc_s.so.1 \
    file:"$guest_unpacked"/lib/udev/scsi_id:/lib/udev/scsi_id file:/etc/mke2fs.conf:/etc/mke2fs.conf \
    file:"$work"/iscsid.conf:/etc/iscsi/iscsid.conf file:"$work"/initiatorname:/etc/iscsi/initiatorname.iscsi \
    file:"$work"/multipath.conf:/etc/multipath.conf file:"$work"/kit:/etc/iscsi/kit file:"$work"/passwd:/etc/passwd \
    file:"$top_srcdir"/tests/guest/unpack-forever:/bin/unpack-forever \
    file:"$top_srcdir"/tests/guest/record-forever:/bin/record-forever
guest_memory=384
guest_boot "$work/archive" -netdev user,id=n -device virtio-net-pci,netdev=n,romfile= \
    -drive "if=virtio,format=raw,readonly=on,file=$work/files.tar"
echo "up after $SECONDS s"
guest 60 'mkdir -p /run/lock/iscsi /var/lib/iscsi /etc/iscsi/nodes; ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up' || guest_fail "no network"
guest 60 'ln -s /bin/udevadm /sbin/systemd-udevd; systemd-udevd --daemon 2>/dev/null && udevadm trigger --action=add && udevadm settle' || guest_fail "no udev"
guest 60 'iscsid -c /etc/iscsi/iscsid.conf -i /etc/iscsi/initiatorname.iscsi' || guest_fail "no iscsid"
guest 60 'sh -e /etc/iscsi/kit' || guest_fail "the kit does not log in"
guest 60 'udevadm settle; (multipathd -d >/tmp/multipathd 2>&1 &); n=0; until ls /dev/mapper/3* >/dev/null 2>&1 || [ $n -gt 200 ]; do n=$((n + 1)); sleep 0.1; done; udevadm settle; multipath -ll' >"$work/paths"
cat "$work/paths"
[ "$(grep -c 'active ready running\|active ghost running' "$work/paths")" = 2 ] ||
    { guest 60 'cat /tmp/multipathd'; guest_fail "no two paths"; }

# --- a file system, and failovers -------------------------------------------------------------------------------
guest 60 'dmesg -c >/dev/null; echo 4194304 >/proc/sys/vm/dirty_bytes'
guest 120 'm=$(ls /dev/mapper/3*); mkfs.ext4 -q $m && mount -t ext4 $m /mnt' || guest_fail "no file system"
guest_start '(sh /bin/unpack-forever /mnt/unpacked /dev/vda >/tmp/unpack 2>&1 & sh /bin/record-forever /mnt/records >/tmp/records 2>&1 & wait) & true'
fail_over_amid_writes "$kills"
# A path that fails is told; the disk, and what is on it, must have nothing to tell.
end_guest_load "$kills" 'error.* dm-|ext4-fs (error|warning)|aborting journal|blocked|hung|read-only|bug:'

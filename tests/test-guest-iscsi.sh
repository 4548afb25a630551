#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A machine boots from an iSCSI disk by QEMU's libiscsi driver.  A Linux guest whose own kernel is the initiator
# (open-iscsi) logs in as `sluice disk show --connect linux` says, with CHAP both ways and digests of headers and
# data, and sg3_utils ask all that a cluster would.  Then it has ext4 and XFS by its own initiator and ext4 on a disk
# that QEMU gives it, unpacks files and checks their sums on each, runs `fio --verify` on both of its own and sg3_utils
# on a fourth disk, over and over, and keeps a log of stable records, while the gateway is killed -9 and restarted KILLS
# times (5) amid the writes: no I/O error, no wrong byte.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
guest_requires jq fio mkfs.ext4 mkfs.xfs e2fsck xfs_repair
kills=${KILLS:-5}
guest_kernel
guest_packages open-iscsi libopeniscsiusr libisns0 sg3-utils libsgutils2-1.46-2
guest_files "$work/files.tar" lib

# --- the disks -----------------------------------------------------------------------------------------
make_iscsi_config
secret a.chap "linux:secret-of-the-guest"
secret m.chap "gateway:secret-of-the-gateway"
slow="filters: [delay: { op: write, time: 10ms, declared: true }]" # so that there are requests to lose
# lun NAME SIZE LUN KEYS [LINE]
lun() {
    disk "$1" <<END
size: $2
backing: { file: $work/$1.raw }
export: { iscsi: { lun: $3, $4 } }
${5:-}
END
}
mine="target: guest, chap: a.chap, chap_mutual: m.chap"
lun ext4 192MiB 0 "$mine" "$slow"
lun xfs 320MiB 1 "$mine" "$slow"
lun tools 16MiB 2 "$mine"
lun copy 24MiB 0 "$(echo "$mine" | sed 's/target: guest/target: copies/')"
lun qemu 192MiB 0 "target: qemu" "$slow"
sed -i 's/export: {/export: { nbd: { enabled: false },/' "$config/disks.d/qemu.yaml"
# A boot sector: reads sector 2048 by the BIOS, sends it to the serial line up to its first zero, ends the machine.
lun boot 16MiB 0 "target: boot"
sed -i 's/export: {/export: { nbd: { enabled: false },/' "$config/disks.d/boot.yaml"
truncate -s 16M "$work/boot.raw"
at() { dd of="$work/boot.raw" bs=1 seek="$1" conv=notrunc status=none; }
printf '\061\300\216\330\216\300\276\044\174\264\102\315\023\162\016\276\000\200\254\204\300\164\006\272\370\003\356\353\365\272\001\005\356\364\353\375' | at 0
printf '\020\000\001\000\000\200\000\000\000\010\000\000\000\000\000\000' | at 36 # what to read, and where to
printf '\125\252' | at 510
printf 'booted from iscsi\n' | at $((2048 * 512))
serve

# --- a machine that boots from it -------------------------------------------------------------------------
# shellcheck disable=SC2046
timeout 60 qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -accel tcg -m 64 \
    $(sluice disk show boot --connect qemu | sed '/^#/d; s/\\$//; s/discard=on/discard=on,bootindex=0/') \
    -device isa-debug-exit,iobase=0x501,iosize=1 -serial "file:$work/booted" >"$work/boot.log" 2>&1
[ $? -eq 1 ] || { cat "$work/boot.log"; fail "no machine boots from an iSCSI disk"; }
grep -x "booted from iscsi" "$work/booted" || fail "what was booted says \"$(cat "$work/booted")\""
for d in ext4 copy; do
    sluice disk show $d --connect linux || fail "no kit for $d"
done >"$work/kit"
# The guest's network reaches this host as 10.0.2.2; the secrets are what a person would put there.
sed -i "s/127\.0\.0\.1:/10.0.2.2:/; s/TARGET-USER/gateway/; s/TARGET-SECRET/secret-of-the-gateway/
    s/USER/linux/; s/SECRET/secret-of-the-guest/" "$work/kit"
sed -i "/HeaderDigest/{p; s/HeaderDigest/DataDigest/}" "$work/kit"
cat "$work/kit"

# --- the guest ------------------------------------------------------------------------------------------
cat >"$work/iscsid.conf" <<END
iscsid.startup = /bin/true
node.startup = manual
END
echo root:x:0:0:root:/:/bin/sh >"$work/passwd" # iscsid obeys root, by name
echo "InitiatorName=iqn.2001-04.com.example:guest" >"$work/initiatorname"
tools="sg_vpd sg_inq sg_opcodes sg_rtpg sg_persist sg_compare_and_write sg_xcopy sg_write_same sg_unmap
    sg_get_lba_status sg_readcap sg_luns sg_write_atomic sg_sync"
# shellcheck disable=SC2046
guest_archive "$work/archive" module:virtio_pci module:virtio_blk module:virtio_net module:ext4 module:xfs \
    module:crc32c_generic module:iscsi_tcp module:sd_mod module:sg program:iscsid program:iscsiadm \
    program:mkfs.ext4 program:mkfs.xfs program:fio $(for t in $tools; do [ -e "$guest_unpacked/usr/bin/$t" ] && echo "program:$t"; done) \
    file:/etc/mke2fs.conf:/etc/mke2fs.conf file:"$work"/iscsid.conf:/etc/iscsi/iscsid.conf \
    file:"$work"/initiatorname:/etc/iscsi/initiatorname.iscsi file:"$work"/kit:/etc/iscsi/kit file:"$work"/passwd:/etc/passwd \
    file:"$top_srcdir"/tests/guest/unpack-forever:/bin/unpack-forever \
    file:"$top_srcdir"/tests/guest/record-forever:/bin/record-forever \
    file:"$top_srcdir"/tests/guest/fio-forever:/bin/fio-forever file:"$top_srcdir"/tests/guest/sg-forever:/bin/sg-forever
guest_memory=768 # fio comes with 80 MiB of libraries
# shellcheck disable=SC2046
set -- $(sluice disk show qemu --connect qemu | sed '/^#/d; s/\\$//')
echo "mounted with: $*"
guest_boot "$work/archive" -netdev user,id=n -device virtio-net-pci,netdev=n,romfile= \
    -drive "if=virtio,format=raw,readonly=on,file=$work/files.tar" "$@"
echo "up after $SECONDS s"
# A command is one line.
guest 60 'mkdir -p /run/lock/iscsi /var/lib/iscsi /etc/iscsi/nodes; ip link set lo up; ip addr add 10.0.2.15/24 dev eth0' || guest_fail "no network"
guest 60 'ip link set eth0 up; iscsid -c /etc/iscsi/iscsid.conf -i /etc/iscsi/initiatorname.iscsi' || guest_fail "no iscsid"
guest 60 'sh -e /etc/iscsi/kit' || guest_fail "the kit does not log in"
guest 60 'n=0; while ! [ -b /dev/sdd ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done; cat /proc/partitions; ls /dev/sd?' ||
    guest_fail "no disks"
sessions=$(sluice status --json | jq -c '[.iscsi_sessions[] | select(.initiator == "iqn.2001-04.com.example:guest")]')
echo "$sessions"
[ "$(echo "$sessions" | jq -c 'map([.header_digest, .data_digest, .authenticated])')" = "[[true,true,true],[true,true,true]]" ] ||
    fail "digests and CHAP were not agreed on"
# Which is which, by its size in MiB: LUNs are scanned at once.
name_of() { guest 10 "cd /sys/block; grep -lx $(($1 * 2048)) sd?/size | cut -d/ -f1"; }
ext4=$(name_of 192) xfs=$(name_of 320) tools=$(name_of 16) copy=$(name_of 24)
echo "LUN 0 to 2: $ext4 $xfs $tools; of another target: $copy"

# --- what a cluster asks -------------------------------------------------------------------------------------
# try NAME COMMAND...: in the guest, on the disk `tools`.
try() {
    local name=$1
    shift
    guest 60 "$*" >"$work/try" 2>&1 || { cat "$work/try"; guest_fail "$name"; }
}
wants() { grep -qE "$1" "$work/try" || { cat "$work/try"; guest_fail "no \"$1\""; }; }
for page in sv di bl lbpv bdc sp tpc; do try "sg_vpd $page" "sg_vpd -p $page /dev/$tools"; done
try "sg_vpd" "sg_vpd -p bl /dev/$tools"
wants 'Maximum compare and write length: 255'
try "sg_opcodes" "sg_opcodes /dev/$tools"
wants 'Compare and write'
try "sg_rtpg" "sg_rtpg -d /dev/$tools"
wants 'active/optimized'
try "sg_persist register" "sg_persist -n -o -G -S 0xabc /dev/$tools"
try "sg_persist reserve" "sg_persist -n -o -R -K 0xabc -T 5 /dev/$tools"
try "sg_persist read" "sg_persist -n -i -r /dev/$tools"
wants 'Write Exclusive, registrants only'
try "sg_persist full" "sg_persist -n -i -s /dev/$tools"
wants 'iqn.2001-04.com.example:guest'
try "sg_persist clear" "sg_persist -n -o -C -K 0xabc /dev/$tools"
try "data" "head -c 512 /dev/zero >/tmp/old; head -c 512 /dev/urandom >/tmp/new; cat /tmp/old /tmp/new >/tmp/both"
try "sg_compare_and_write" "sg_compare_and_write -i /tmp/both -l 0 -n 1 /dev/$tools"
try "sg_compare_and_write again" "! sg_compare_and_write -i /tmp/both -l 0 -n 1 -q /dev/$tools"
try "what it wrote" "dd if=/dev/$tools bs=512 count=1 iflag=direct 2>/dev/null | cmp - /tmp/new"
try "sg_write_same" "sg_write_same -i /tmp/new -l 8 -n 64 -x 512 /dev/$tools"
try "what it wrote" "dd if=/dev/$tools bs=512 skip=71 count=1 iflag=direct 2>/dev/null | cmp - /tmp/new"
sg_of() { echo "/dev/\$(ls /sys/block/$1/device/scsi_generic)"; }
try "sg_xcopy" "sg_xcopy if=$(sg_of $tools) of=$(sg_of $copy) bs=512 count=72"
try "what it copied" "dd if=/dev/$copy bs=512 skip=71 count=1 iflag=direct 2>/dev/null | cmp - /tmp/new"
try "sg_unmap" "sg_unmap -l 8 -n 64 -f /dev/$tools"
try "sg_get_lba_status" "sg_get_lba_status -l 8 /dev/$tools"
wants 'deallocated'
echo "sg3_utils: $SECONDS s"

# --- file systems, and kills ------------------------------------------------------------------------------------
guest 60 'dmesg -c >/dev/null; echo 4194304 >/proc/sys/vm/dirty_bytes'
guest 120 "mkfs.ext4 -q /dev/$ext4 && mkfs.xfs -q /dev/$xfs && mkfs.ext4 -q /dev/vda" || guest_fail "no file systems"
guest 60 "mkdir /mnt/e /mnt/x /mnt/q; mount -t ext4 /dev/$ext4 /mnt/e && mount -t xfs /dev/$xfs /mnt/x && mount -t ext4 /dev/vda /mnt/q" || guest_fail "no file systems"
guest_start 'for d in e x q; do sh /bin/unpack-forever /mnt/$d/unpacked /dev/vdb >/tmp/unpack-$d 2>&1 & done; sh /bin/record-forever /mnt/e/records >/tmp/records 2>&1 & for d in e x; do sh /bin/fio-forever /mnt/$d/fio >/tmp/fio-$d 2>&1 & done; true'
guest_start "sh /bin/sg-forever $tools $copy \$(ls /sys/block/$copy/device/scsi_generic) >/tmp/sg 2>&1 & true"
is_amid_writes() {
    for d in ext4 xfs qemu; do
        sluice disk show $d --json 2>/dev/null | jq -e '.io | .operations.write.bytes >= 131072' >/dev/null || return 1
    done
    sluice disk show tools --json 2>/dev/null | jq -e '.io.operations.write.bytes > 0' >/dev/null || return 1
    sluice disk show ext4 --json 2>/dev/null | jq -e '.io.in_flight > 0' >/dev/null
}
not_amid_writes() {
    for d in ext4 xfs qemu tools; do echo "$d: $(sluice disk show $d --json | jq -c '[.io.in_flight, .io.operations.write]')"; done
    sluice disk show ext4 --tasks
    guest 20 'tail -n 3 /tmp/sg /tmp/records /tmp/unpack-? /tmp/fio-?; dmesg | tail -n 20; ps | grep -v "\["'
    guest_fail "$1"
}
for i in $(seq "$kills"); do
    within 180 is_amid_writes || not_amid_writes "kill $i: the guest does not write"
    stop KILL
    serve
done
within 180 is_amid_writes || not_amid_writes "the guest does not write after the last kill"
echo "$kills kills amid writes: $SECONDS s"
guest 400 'touch /tmp/enough; wait; cat /tmp/unpack-? /tmp/fio-? /tmp/sg; ! cat /tmp/unpack-? | grep -v "^unpacked"' ||
    guest_fail "a wrong file"
guest 10 '! cat /tmp/fio-? | grep -v "^fio verified [1-9]"' || guest_fail "fio found a wrong block, or got an I/O error"
# A kill may end a step, and the unit attention of the new session another, on each of the two disks.
anew=$(guest 10 "sed -n 's/^[1-9][0-9]* rounds of sg3_utils, \([0-9]*\) steps begun anew\$/\1/p' /tmp/sg")
[ "${anew:-1000}" -le $((4 * kills)) ] || guest_fail "sg3_utils: $(guest 10 'cat /tmp/sg')"
records=$(guest 60 'cat /tmp/records')
[ "$records" -ge "$kills" ] || guest_fail "a record was refused: $records"
guest 120 'for d in e x q; do cd /mnt/$d/unpacked && sha256sum -c SHA256SUMS >/tmp/sums || { grep -v ": OK$" /tmp/sums; exit 1; }; done; cd /; umount /mnt/e && umount /mnt/x && umount /mnt/q' || guest_fail "a wrong byte"
guest 60 'iscsiadm -m node --logout' || guest_fail "no logout"
guest 60 'dmesg' >"$work/dmesg"
grep -vE 'detected conn error|iscsi.*(recover|session)' "$work/dmesg" |
    grep -iE 'i/o error|ext4-fs error|xfs.*(corrupt|shutdown|error)|buffer i/o|blocked|hung|read-only|warning|bug:' &&
    fail "the guest complained"
guest_off 60
stop TERM
e2fsck -fn "$work/ext4.raw" >"$work/fsck" 2>&1 || { cat "$work/fsck"; fail "ext4 is not clean"; }
e2fsck -fn "$work/qemu.raw" >"$work/fsck" 2>&1 || { cat "$work/fsck"; fail "the ext4 by QEMU is not clean"; }
xfs_repair -n "$work/xfs.raw" >"$work/fsck" 2>&1 || { cat "$work/fsck"; fail "XFS is not clean"; }
echo "$records records; shut down after $SECONDS s"

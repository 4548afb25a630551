#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A guest whose disk QEMU has by nbd:// at an address that the sample hooks of conf/hooks.d move between two gateways, each
# in a network namespace of its own as on a machine of its own.  The guest unpacks files and checks their sums, and keeps a
# log of stable records, while the disk is handed over to and fro and, KILLS times (1), the primary's machine is gone
# from one moment to the next and the other gateway is promoted by force: no error in the guest, no wrong byte.  Prints how
# long it took from each of them to the first write at the other gateway.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
. "$top_srcdir/tests/guest/functions.sh"
. "$top_srcdir/tests/guest/failover-functions.sh"
guest_requires jq mkfs.ext4 e2fsck ip unshare nsenter
kills=${KILLS:-1}
guest_kernel
guest_packages iputils-arping
if [ -z "${IN_NAMESPACE:-}" ]; then
    unshare -n sh -c 'ip tuntap add probe mode tap' 2>/dev/null || { echo "needs the right to make network namespaces and taps"; exit 77; }
    rm -rf "$work"
    IN_NAMESPACE=1 exec unshare -n "$0"
fi
guest_files "$work/files.tar" lib
PATH=$guest_unpacked/usr/bin:$PATH

# --- two machines, and the one of the guest -------------------------------------------------------------------
floating=10.77.0.17
machine() { # NAME ADDRESS: a namespace, whose process is in $work/NAME.machine
    unshare -n sleep infinity &
    echo $! >"$work/$1.machine"
    children="$children $!"
    within 10 is_apart "$!" || fail "no namespace"
}
is_apart() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
in_machine() {
    local name=$1
    shift
    nsenter --net="/proc/$(cat "$work/$name.machine")/ns/net" "$@"
}
boot_machine() { # NAME: with its own address alone
    in_machine "$1" ip address flush dev eth0 || fail "no eth0"
    in_machine "$1" sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_ignore && echo 2 >/proc/sys/net/ipv4/conf/eth0/arp_announce' ||
        fail "no setting of eth0"
    in_machine "$1" ip address add "$(address_of "$1")/24" dev eth0 && in_machine "$1" ip link set eth0 up && in_machine "$1" ip link set lo up ||
        fail "no address"
}
address_of() { case $1 in gw-a) echo 10.77.0.1 ;; *) echo 10.77.0.2 ;; esac; }
machine gw-a
machine gw-b
$python "$top_srcdir/tests/guest/hub.py" "$(cat "$work/gw-a.machine")" "$(cat "$work/gw-b.machine")" $$ >"$work/hub" 2>&1 &
children="$children $!"
within 10 grep -q ready "$work/hub" || fail "no network: $(cat "$work/hub")"
ip link set lo up && ip address add 10.77.0.9/24 dev eth0 && ip link set eth0 up || fail "no address"
boot_machine gw-a
boot_machine gw-b

# --- the pair -------------------------------------------------------------------------------------------------
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
pair_disk vm <<END
size: 192MiB
uuid: 1f000000-0000-4000-8000-000000000001
backing: { file: @HERE@/vm.raw }
export: { nbd: { tls: off } }
filters:
  - delay: { op: write, time: 2ms, declared: true } # so that there are writes to lose
  - replication: { peer: @PEER@, peer_timeout: 300ms, peer_wait: 1s }
END
for name in gw-a gw-b; do
    sed -i "s,nbd: \[.*,nbd: [\"0.0.0.0:10809\"],; s/peer: \[.*/peer: [\"$(address_of $name):10810\"]/
        s/address: \"localhost:[0-9]*\"/address: \"$(address_of "$(other_half $name)"):10810\"/" "$work/$name/etc/gateway.yaml"
    mkdir "$work/$name/etc/hooks.d"
    for hook in promoted demoted; do
        sed "s/^vm17) address=.*;;/vm) address=$floating\/24 ;;/" "$top_srcdir/conf/hooks.d/$hook" >"$work/$name/etc/hooks.d/$hook"
        chmod +x "$work/$name/etc/hooks.d/$hook"
    done
done
# A gateway runs on its machine; the command line needs its socket alone.
cat >"$work/sluice" <<END
#!/bin/sh
case "\$1 \$3" in
"serve $work/gw-a/etc") exec nsenter --net=/proc/$(cat "$work/gw-a.machine")/ns/net "$sluice_program" "\$@" ;;
"serve $work/gw-b/etc") exec nsenter --net=/proc/$(cat "$work/gw-b.machine")/ns/net "$sluice_program" "\$@" ;;
*) exec "$sluice_program" "\$@" ;;
esac
END
chmod +x "$work/sluice"
sluice_program=$work/sluice
machine_is_lost() {
    in_machine "$1" ip link set eth0 down
    pair_kill "$1"
}
machine_is_back() {
    boot_machine "$1"
    pair_serve "$1"
}
start_pair
has_address() { in_machine "$1" ip -o address show dev eth0 | grep -q "$floating/"; }
within 10 has_address gw-a || fail "the hook has not moved the address: $(tail -n 5 "$work/gw-a/log")"

# --- the guest ------------------------------------------------------------------------------------------------
guest_archive "$work/archive" module:virtio_pci module:virtio_blk module:ext4 module:crc32c_generic program:mkfs.ext4 \
    file:/etc/mke2fs.conf:/etc/mke2fs.conf file:"$top_srcdir"/tests/guest/unpack-forever:/bin/unpack-forever \
    file:"$top_srcdir"/tests/guest/record-forever:/bin/record-forever
# shellcheck disable=SC2046
set -- $(on gw-a disk show vm --connect qemu | sed "/^#/d; s/\\\\\$//; s/server.host=[^,]*/server.host=$floating/; s/reconnect-delay=[0-9]*/reconnect-delay=120/")
echo "mounted with: $*"
guest_boot "$work/archive" "$@" -drive "if=virtio,format=raw,readonly=on,file=$work/files.tar"
echo "up after $SECONDS s"
guest 60 'dmesg -c >/dev/null; echo 4194304 >/proc/sys/vm/dirty_bytes'
guest 120 'mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /mnt' || guest_fail "no file system"
guest_start '(sh /bin/unpack-forever /mnt/unpacked /dev/vdb >/tmp/unpack 2>&1 & sh /bin/record-forever /mnt/records >/tmp/records 2>&1 & wait) & true'
fail_over_amid_writes "$kills"
has_address "$primary" && ! has_address "$(other_half "$primary")" || fail "the address is not at $primary alone"
end_guest_load "$kills" 'error|fail|corrupt|abort|blocked|hung|timed out|read-only|warning|bug:'

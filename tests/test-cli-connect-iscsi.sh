#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice disk show --connect KIND` of an iSCSI disk: every kit names the target, the LUN and the portal, parses as
# what it is to be pasted into, and never has a secret in it; QEMU's is run.  What cannot be said is an error.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq qemu-io
make_iscsi_config
secret a.chap "user:secret-of-the-host"
secret m.chap "gateway:secret-of-the-gateway"
disk open <<END
size: 16MiB
backing: { file: $work/open.raw }
export: { nbd: { enabled: false }, iscsi: { target: cluster, lun: 5 } }
END
disk guarded <<END
size: 16MiB
backing: { file: $work/guarded.raw }
export: { nbd: { enabled: false }, iscsi: { target: guarded, chap: a.chap, chap_mutual: m.chap } }
END
disk nbd-only <<END
size: 16MiB
backing: { file: $work/nbd.raw }
export: { iscsi: { enabled: false } }
END
disk own-target <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000a
backing: { file: $work/own.raw }
END
! sluice disk show open --connect linux >"$work/out" 2>&1 || fail "a kit without a gateway"
serve

for kind in linux esxi windows xen proxmox qemu libvirt; do
    for name in open guarded; do
        sluice disk show $name --connect $kind >"$work/$kind.$name" || fail "no kit for $kind"
        ! grep -q "secret-of-the" "$work/$kind.$name" || fail "$kind: a secret is printed"
        ! grep -qE '@[A-Z]+@|\?(chap|mutual)' "$work/$kind.$name" || fail "$kind: $(cat "$work/$kind.$name")"
        # Windows and XenServer take the address and the port apart.
        grep -q "127.0.0.1.*$port" "$work/$kind.$name" || grep -q "127.0.0.1" "$work/$kind.$name" || fail "$kind: no portal"
    done
    grep -q "$prefix:cluster" "$work/$kind.open" || fail "$kind: no target"
    ! grep -q USER "$work/$kind.open" || fail "$kind: a user where there is none"
    [ $kind = proxmox ] || grep -q USER "$work/$kind.guarded" || fail "$kind: no place for the secret"
    echo "$kind: $(wc -l <"$work/$kind.open") lines, $(wc -l <"$work/$kind.guarded") with CHAP"
done
for kind in linux esxi xen proxmox; do
    sh -n "$work/$kind.guarded" || fail "$kind: is no script"
done
$python -c 'import sys, xml.dom.minidom as x; x.parseString("".join(l for l in open(sys.argv[1]) if l[0] != "#"))' \
    "$work/libvirt.guarded" || fail "libvirt: is no XML"
grep -q "name='$prefix:cluster/5'" "$work/libvirt.open" || fail "libvirt: no LUN"
grep -q 'vendor "SLUICE"' "$work/linux.open" || fail "no multipath.conf"
sluice disk show own-target --connect linux | grep -q "$prefix:0a1b2c3d-0000-4000-8000-00000000000a" ||
    fail "a target named by its UUID"

# What is printed is what QEMU takes.
options=$(sed -n 's/^-blockdev \(driver=iscsi.*\) \\$/\1/p' "$work/qemu.open" | sed 's/node-name=open,//')
qemu-io --image-opts "$options" -c "write -P 7 1M 64k" -c "read -P 7 1M 64k" >"$work/out" 2>&1 || fail "qemu-io: $(cat "$work/out")"
[ "$(dd if="$work/open.raw" bs=1 skip=1048576 count=1 status=none | od -An -tu1 | tr -d ' ')" = 7 ] || fail "QEMU wrote elsewhere"

says() {
    wanted=$1
    shift
    ! "$@" >"$work/out" 2>&1 || fail "$*: succeeded"
    grep -q "$wanted" "$work/out" || fail "$*: $(cat "$work/out")"
}
says 'not exported over iSCSI' sluice disk show nbd-only --connect esxi
says 'not exported over NBD' sluice disk show open --connect uri
says 'takes qemu|libvirt' sluice disk show open --connect amiga
says 'there is no disk "no"' sluice disk show no --connect linux
stop TERM

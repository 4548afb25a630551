# SPDX-License-Identifier: BSD-3-Clause
# tgt-functions: sourced after backing-functions; an iSCSI target of tgt on a loopback port.
PATH=$PATH:/usr/sbin:/sbin
need tgtd tgtadm python3
[ "$(id -u)" = 0 ] || { echo "tgtd wants to be root"; exit 77; }
portal=127.0.0.1:$(free_port)
control=$((2000 + RANDOM % 28000))
iqn=iqn.2024-01.test.sluice:disk
tid=1 # becomes part of the LUN's name

tgt() {
    tgtadm -C $control --lld iscsi "$@" >>"$dir/tgtadm.log" 2>&1
}

tgtd_answers() { tgt --op show --mode sys; }

# start_tgtd: with $dir/lun as LUN 1, thin; accounts are bound by tgt_accounts if that is defined.
# The accounts come before the initiators are let in.
start_tgtd() {
    server tgtd tgtd -f -C $control --iscsi portal="$portal"
    until_true 10 tgtd_answers || { tail "$dir"/tgt*.log; fail "tgtd does not start"; }
    tgt --op new --mode target --tid $tid -T $iqn
    tgt --op new --mode logicalunit --tid $tid --lun 1 -b "$dir/lun" || fail "no LUN"
    tgt --op update --mode logicalunit --tid $tid --lun 1 --params thin_provisioning=1
    if declare -F tgt_accounts >/dev/null; then tgt_accounts; fi
    tgt --op bind --mode target --tid $tid -I ALL
}

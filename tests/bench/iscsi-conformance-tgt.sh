#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# iscsi-conformance: libiscsi's suites against Sluice (the matrix of tests/test-iscsi-conformance.sh) and
# against tgt: thin disks with sectors of 512 bytes and of 4096, and a read-only one.  Prints the table of
# docs/iscsi.md.
#
#     make iscsi-conformance
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"
need iscsi-test-cu
export MENDED=$top_builddir/tests/tools/mended-conformance.so
conformance() { PYTHONDONTWRITEBYTECODE=1 $python "$top_srcdir/tests/iscsi-conformance.py" "$@"; }
truncate -s 64M "$dir/lun" "$dir/lun4k" "$dir/lunro"
start_tgtd
tgt --op new --mode logicalunit --tid $tid --lun 2 -b "$dir/lun4k" --blocksize 4096 || fail "no LUN of 4096"
tgt --op update --mode logicalunit --tid $tid --lun 2 --params thin_provisioning=1
tgt --op new --mode logicalunit --tid $tid --lun 3 -b "$dir/lunro" || fail "no read-only LUN"
tgt --op update --mode logicalunit --tid $tid --lun 3 --params readonly=1
url() { echo "iscsi://$portal/$iqn/$1"; }
run() {
    local name=$1 lun=$2
    shift 2
    conformance run "$name" "$dir/tgt" 20 "$@" -- -d -S "$(url "$lun")" "$(url "$lun")" >/dev/null
}
set -f
run 512 1 --not Sanitize.Reset
run 4kn 2 --not Sanitize.Reset
run read-only 3 --only ReadOnly.*
set +f
KEEP=$dir/sluice "$top_srcdir/tests/test-iscsi-conformance.sh" >"$dir/log" 2>&1 ||
    { grep -v '^sluice: info' "$dir/log" | tail -n 40; fail "Sluice has failures"; }
tgtd --version 2>&1 | sed 's/^/tgt /'
conformance table "Sluice=$dir/sluice" "tgt=$dir/tgt"

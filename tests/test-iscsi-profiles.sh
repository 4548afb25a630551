#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What ESXi, a Windows cluster and XenServer send, in their order, is answered as they need it.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq
make_iscsi_config
for lun in 0 1; do
    disk d$lun <<END
size: 32MiB
backing: { file: $work/d$lun.raw }
export: { iscsi: { target: both, lun: $lun } }
END
done
serve
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 $python "$top_srcdir/tests/iscsi-profiles.py" "$port" "$prefix:both" \
    "$sluice_program" status --json --config "$config" || fail "see above"
stop TERM

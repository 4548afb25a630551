#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# One disk mounted by NBD and by iSCSI at once: COMPARE AND WRITE on one side and writes on the other, of the same
# blocks; no write is lost and no range torn.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq
$python -c 'import nbd' 2>/dev/null || { echo "needs libnbd's Python module"; exit 77; }
make_iscsi_config
disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
export: { iscsi: { target: d } }
END
serve
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 $python "$top_srcdir/tests/iscsi-beside-nbd.py" "$port" \
    "$prefix:d" "$(uri d)" "${SECONDS_EACH:-4}" || fail "see above"
stop TERM

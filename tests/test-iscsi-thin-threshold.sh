#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A thin disk larger than the file system in which it lies: initiators are warned once (38/07) when little is
# left, and again when it has become little anew; a write that finds no room is answered 07/27/07, one that was
# acknowledged stays, and what is unmapped can be written again.  Space is told by the log page and the mode
# page.  A mount of the test's own.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
mkdir "$work/small"
trap 'status=$?; kill -9 "${gateway:-}" 2>/dev/null && wait "$gateway" 2>/dev/null; umount "$work/small" 2>/dev/null; (exit $status); cleanup' EXIT
if ! mount -t tmpfs -o size=32m none "$work/small" 2>"$work/err"; then
    echo "this machine gives no mount: $(cat "$work/err")"
    exit 77
fi
make_iscsi_config
# luns LOW-SPACE
luns() {
    for name in d e; do
        disk $name <<END
size: 64MiB
backing: { file: $work/small/$name.raw }
export: { iscsi: { target: $name, low_space: $1 } }
END
    done
}
luns 25
serve
initiator() {
    PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 timeout 120 $python "$top_srcdir/tests/iscsi-thin-threshold.py" \
        "$port" "$prefix" "$@" || fail "the initiator: $*"
}
initiator warned 25
[ "$(grep -c "MiB are left in the file system" "$work/log")" -ge 2 ] || fail "the log does not warn"
# A reload changes the threshold, and takes it away.
luns 50
sluice reload >/dev/null
initiator told 50
luns 0
sluice reload >/dev/null
initiator silent
stop TERM

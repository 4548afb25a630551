#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of the corpora of fuzz-scsi-cdb and fuzz-scsi-reservations breaks none of what must be true.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
for target in scsi-cdb scsi-reservations; do
    "$top_builddir/tests/fuzz/replay-$target" "$top_srcdir/tests/fuzz/corpus/$target"
done

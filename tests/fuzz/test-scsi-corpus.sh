#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of the corpus of fuzz-scsi-cdb breaks none of what must be true.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
"$top_builddir/tests/fuzz/replay-scsi-cdb" "$top_srcdir/tests/fuzz/corpus/scsi-cdb"

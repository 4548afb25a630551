#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of the corpus of fuzz-replication-frames breaks none of what must be true.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
"$top_builddir/tests/fuzz/replay-replication-frames" "$top_srcdir/tests/fuzz/corpus/replication-frames"

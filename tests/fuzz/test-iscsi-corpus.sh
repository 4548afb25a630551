#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of the corpora of fuzz-iscsi-text and fuzz-iscsi-login breaks none of what must be true.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
"$top_builddir/tests/fuzz/replay-iscsi-text" "$top_srcdir/tests/fuzz/corpus/iscsi-text"
"$top_builddir/tests/fuzz/replay-iscsi-login" "$top_srcdir/tests/fuzz/corpus/iscsi-login"

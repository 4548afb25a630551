#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of fuzz-control's corpus is read as requests, and breaks none of what must be true of them.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
exec "$top_builddir/tests/fuzz/replay-control" "$top_srcdir/tests/fuzz/corpus/control"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of fuzz-config's corpus goes through loader, printer and planner and breaks none of
# what must be true of them.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
exec "$top_builddir/tests/fuzz/replay-config" "$top_srcdir/tests/fuzz/corpus/config"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every manifest of fuzz-manifest's corpus is read, and breaks none of what must be true of them.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
exec "$top_builddir/tests/fuzz/replay-manifest" "$top_srcdir/tests/fuzz/corpus/manifest"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every input of fuzz-peer-frames's corpus is read, and breaks none of what must be true of frames.
set -eu
: "${top_srcdir:=$(dirname "$0")/../..}" "${top_builddir:=.}"
exec "$top_builddir/tests/fuzz/replay-peer-frames" "$top_srcdir/tests/fuzz/corpus/peer-frames"

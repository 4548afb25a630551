#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that fuzz-config finds what it is there to find: a bug planted in the harness, behind two keys
# that no input of the corpus has together, must end the run within two minutes; it takes seconds.
set -eu
tmp=$(mktemp -d "${TMPDIR:-/tmp}/fuzz-self-test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
. "$(dirname "$0")/build.sh"
build_config "$tmp/fuzz" -DPLANTED_BUG -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=all "$top_srcdir/tests/fuzz/config-mutator.c"

mkdir "$tmp/new"
start=$(date +%s)
status=0
"$tmp/fuzz" -max_total_time=120 -artifact_prefix="$tmp/" "$tmp/new" \
    "$top_srcdir/tests/fuzz/corpus/config" >"$tmp/log" 2>&1 || status=$?
tail -n 5 "$tmp/log"
echo "exit $status after $(($(date +%s) - start)) seconds"
[ "$status" -ne 0 ] && grep -q 'fuzz-config.c.*planted_bug\|planted_bug.*fuzz-config.c' "$tmp/log"

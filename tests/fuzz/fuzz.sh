#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds each fuzz target with clang under the address and undefined behaviour sanitizers and runs it for
# FUZZ_SECONDS (600) from its corpus; then shows how many of the parsers' lines the corpus reaches, and that a
# planted bug is found.  A target NAME is fuzz-NAME.c, and its own mutator NAME-mutator.c and NAME.dict if there
# are any.  What breaks it stays in the folder tests/fuzz/found/NAME of the build.
set -eu
: "${top_srcdir:=$(cd "$(dirname "$0")/../.." && pwd)}" "${top_builddir:=$PWD}"
. "$top_srcdir/tests/fuzz/build.sh"
seconds=${FUZZ_SECONDS:-600}
failed=0
for source in "$top_srcdir"/tests/fuzz/fuzz-*.c; do
    name=$(basename "$source" .c)
    name=${name#fuzz-}
    found=$top_builddir/tests/fuzz/found/$name
    mkdir -p "$found/inputs"
    mutator=$top_srcdir/tests/fuzz/$name-mutator.c
    [ -f "$mutator" ] || mutator=
    # shellcheck disable=SC2086 # there may be no mutator
    build_target "$name" "$found/fuzz" -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $mutator
    dictionary=$top_srcdir/tests/fuzz/$name.dict
    [ -f "$dictionary" ] && dictionary=-dict=$dictionary || dictionary=
    echo "fuzz-$name for $seconds s"
    "$found/fuzz" ${dictionary:+"$dictionary"} -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$found/" "$found/inputs" \
        "$top_srcdir/tests/fuzz/corpus/$name" >"$found/log" 2>&1 || failed=1
    tail -n 12 "$found/log"
done
"$top_srcdir/tests/fuzz/coverage.sh" || failed=1
"$top_srcdir/tests/fuzz/self-test.sh" || failed=1
exit $failed

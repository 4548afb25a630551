#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the fuzzers find what they are there to find: a bug planted in each harness, behind two keys
# that no input of the corpus has together, must end the run, on an idle machine within seconds.
set -eu
tmp=$(mktemp -d "${TMPDIR:-/tmp}/fuzz-self-test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
. "$(dirname "$0")/build.sh"

# must_find TARGET SOURCE...
must_find() {
    target=$1
    shift
    build_target "$target" "$tmp/fuzz" -DPLANTED_BUG -fsanitize=fuzzer,address,undefined \
        -fno-sanitize-recover=all "$@"
    mkdir "$tmp/new-$target"
    start=$(date +%s)
    status=0
    dictionary=$top_srcdir/tests/fuzz/$target.dict
    [ -f "$dictionary" ] && dictionary=-dict=$dictionary || dictionary=
    "$tmp/fuzz" ${dictionary:+"$dictionary"} -seed=1 -runs=5000000 -max_total_time=900 -artifact_prefix="$tmp/" "$tmp/new-$target" \
        "$top_srcdir/tests/fuzz/corpus/$target" >"$tmp/log" 2>&1 || status=$?
    tail -n 5 "$tmp/log"
    echo "$target: exit $status after $(($(date +%s) - start)) seconds"
    [ "$status" -ne 0 ] &&
        grep -q "fuzz-$target.c.*planted_bug\|planted_bug.*fuzz-$target.c\|fuzz-$target.c:.*index 4 out of bounds" "$tmp/log"
}
must_find config "$top_srcdir/tests/fuzz/config-mutator.c"
must_find manifest
must_find control

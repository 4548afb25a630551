#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Prints how many lines of the parsers the committed corpora reach, file by file, and fails below 80 %.
set -eu
least=${1:-80}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/fuzz-coverage.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
. "$(dirname "$0")/build.sh"
if ! command -v llvm-profdata >/dev/null || ! command -v llvm-cov >/dev/null; then
    echo "needs llvm-profdata and llvm-cov"
    exit 77
fi

# measure TARGET PARSER...: by its own corpus.
measure() {
    target=$1
    shift
    parsers=$(for file; do echo "$top_srcdir/gateway/$file.c"; done)
    build_target "$target" "$tmp/replay" -fprofile-instr-generate -fcoverage-mapping \
        "$top_srcdir/tests/fuzz/replay.c"
    LLVM_PROFILE_FILE=$tmp/raw "$tmp/replay" "$top_srcdir/tests/fuzz/corpus/$target" 2>/dev/null
    llvm-profdata merge -sparse "$tmp/raw" -o "$tmp/profile"
    # shellcheck disable=SC2086 # a list of files
    llvm-cov report "$tmp/replay" -instr-profile="$tmp/profile" -show-region-summary=false \
        -show-branch-summary=false $parsers | sed 's/^Filename/File    /' >"$tmp/report"
    cat "$tmp/report"
    awk -v least="$least" -v target="$target" '/^TOTAL/ { sub(/%/, "", $NF); percent = $NF }
        END { printf "%s: lines reached: %s %%, at least %s %% wanted\n", target, percent, least
              exit percent + 0 < least + 0 }' "$tmp/report"
}
measure config config/address config/arena config/bind config/chain config/crosscheck config/effective \
    config/filters config/load config/node config/plan config/policy config/problems config/scalar \
    config/tables config/types config/yaml
measure manifest config/manifest
measure control control/request

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Makes the corpus of fuzz-config anew from the tables of tests/config and the samples in conf: each
# case is one input, its files one behind the other.
set -eu
cd "$(dirname "$0")/../.."
out=tests/fuzz/corpus/config
tmp=$(mktemp -d "${TMPDIR:-/tmp}/corpus.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

bundle() {
    (cd "$1" && find . -name '*.yaml' | LC_ALL=C sort | while read -r file; do
        echo "--- ${file#./}"
        cat "$file"
    done)
}

mkdir -p $out
for table in bad plan; do
    sh tests/config/lay-out.sh tests/config/$table.cases "$tmp/$table"
done
while read -r name; do
    bundle "$tmp/bad/$name/conf" >"$out/bad-$name"
done <"$tmp/bad/names"
while read -r name; do
    bundle "$tmp/plan/$name/conf/new" >"$out/good-$name"
done <"$tmp/plan/names"
bundle conf >"$out/good-samples"

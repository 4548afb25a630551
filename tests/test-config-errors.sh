#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every broken configuration of tests/config/bad.cases is refused with exactly the lines that stand
# there: file, line, column, key path, sentence and suggestion.
#
# SLUICE_CHECK is the command that takes the folder as its last word; `sluice check --config` may be
# put in its place, with the filters of tests/unit/fake-filters.c on its path.
set -eu
: "${top_srcdir:=$(dirname "$0")/..}" "${top_builddir:=.}"
check=${SLUICE_CHECK:-$top_builddir/tests/unit/config-check}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/config-errors.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

sh "$top_srcdir/tests/config/lay-out.sh" "$top_srcdir/tests/config/bad.cases" "$tmp"
cases=0 failed=0
while read -r name; do
    cases=$((cases + 1))
    status=0
    # shellcheck disable=SC2086 # a command and its words
    $check "$tmp/$name/conf" >"$tmp/$name/got" 2>&1 || status=$?
    if [ "$status" -ne 1 ] || ! cmp -s "$tmp/$name/expect" "$tmp/$name/got"; then
        echo "case $name: exit $status"
        diff -u "$tmp/$name/expect" "$tmp/$name/got" || true
        failed=$((failed + 1))
    fi
done <"$tmp/names"
echo "$cases broken configurations, $failed not as they should be"
[ "$cases" -ge 100 ] && [ "$failed" -eq 0 ]

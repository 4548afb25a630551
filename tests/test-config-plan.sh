#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# From every old configuration of tests/config/plan.cases to the new one leads exactly the plan that
# stands there; and a disk printed by --effective is the same disk: from it to its source leads none.  As JSON
# it says the same, value by value and place by place, and as the schema of a disk file has it.
set -eu
: "${top_srcdir:=$(dirname "$0")/..}" "${top_builddir:=.}"
check=$top_builddir/tests/unit/config-check
tmp=$(mktemp -d "${TMPDIR:-/tmp}/config-plan.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

sh "$top_srcdir/tests/config/lay-out.sh" "$top_srcdir/tests/config/plan.cases" "$tmp"
echo "key" >"$tmp/key"
chmod 600 "$tmp/key"
cases=0 failed=0
fail() {
    echo "case $name: $1"
    failed=$((failed + 1))
}

while read -r name; do
    cases=$((cases + 1))
    for side in old new; do
        conf=$tmp/$name/conf/$side
        mkdir -p "$conf/disks.d"
        [ -e "$conf/gateway.yaml" ] || echo "gateway: gw" >"$conf/gateway.yaml"
        sed -i "s|KEY|$tmp/key|" "$conf/disks.d/"*.yaml 2>/dev/null || true
    done
    "$check" --plan "$tmp/$name/conf/old" "$conf" >"$tmp/$name/got" 2>&1 || fail "exit $?"
    cmp -s "$tmp/$name/expect" "$tmp/$name/got" || {
        diff -u "$tmp/$name/expect" "$tmp/$name/got" || true
        fail "another plan"
    }
    cp -R "$conf" "$tmp/$name/again"
    for file in "$conf/disks.d/"*.yaml; do
        [ -e "$file" ] || continue
        disk=$(basename "$file" .yaml)
        "$check" --effective "$disk" "$conf" >"$tmp/$name/again/disks.d/$disk.yaml" ||
            fail "--effective $disk: exit $?"
        "$check" --effective-json "$disk" "$conf" >"$tmp/$name/again/$disk.json" ||
            fail "--effective-json $disk: exit $?"
    done
    "$check" --plan "$conf" "$tmp/$name/again" >"$tmp/$name/none" 2>&1 || fail "effective: exit $?"
    [ ! -s "$tmp/$name/none" ] || {
        cat "$tmp/$name/none"
        fail "what --effective prints is another disk"
    }
done <"$tmp/names"
if python3 -c 'import yaml, jsonschema' 2>/dev/null; then
    "$check" --schema disk >"$tmp/disk.schema.json"
    python3 "$top_srcdir/tests/config/compare-effective.py" "$tmp/disk.schema.json" "$tmp"/*/again ||
        failed=$((failed + 1))
fi
echo "$cases plans, $failed not as they should be"
[ "$cases" -ge 30 ] && [ "$failed" -eq 0 ]

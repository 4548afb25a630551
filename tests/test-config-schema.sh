#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The JSON Schema that comes from the option tables judges every sample and every broken
# configuration as `check` does, wherever one document by itself shows what is wrong; and the schemas
# in conf/ are those of this source.
set -eu
: "${top_srcdir:=$(dirname "$0")/..}" "${top_builddir:=.}"
check=$top_builddir/tests/unit/config-check
tmp=$(mktemp -d "${TMPDIR:-/tmp}/config-schema.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
failed=0

# The filters that come with this source; with another filter the schemas are others.
filters=$(make -s --no-print-directory -C "$top_builddir" print-filters | tr ' ' '\n' | sed "s|^|$top_builddir/|" | sort)
for kind in gateway disk policy; do
    # shellcheck disable=SC2086 # a list of files
    "$check" --schema $kind --real $filters >"$tmp/$kind.real.json"
    if ! cmp -s "$tmp/$kind.real.json" "$top_srcdir/conf/$kind.schema.json"; then
        echo "conf/$kind.schema.json is not that of this source; make it anew with"
        echo "    tests/unit/config-check --schema $kind --real $filters"
        failed=1
    fi
done

# What the samples and the generator of samples say is good.
"$check" "$top_srcdir/conf"
mkdir -p "$tmp/sample/disks.d" "$tmp/sample/policies.d"
echo "gateway: gw" >"$tmp/sample/gateway.yaml"
echo "on_stall: fail" >"$tmp/sample/policies.d/gold.yaml"
"$check" --sample >"$tmp/sample/disks.d/sample.yaml"
"$check" "$tmp/sample"

if ! python3 -c 'import yaml, jsonschema' 2>/dev/null; then
    [ $failed -eq 0 ] || exit 1
    echo "needs python3-yaml and python3-jsonschema"
    exit 77
fi
for kind in gateway disk policy; do
    "$check" --schema $kind >"$tmp/$kind.schema.json"
done
sh "$top_srcdir/tests/config/lay-out.sh" "$top_srcdir/tests/config/bad.cases" "$tmp/cases"
python3 "$top_srcdir/tests/config/validate.py" "$tmp" "$tmp/cases" \
    "$top_srcdir/tests/config/bad.cases" "$top_srcdir/conf" "$tmp/sample" || failed=1
exit $failed

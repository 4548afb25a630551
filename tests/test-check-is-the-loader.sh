#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice check` says of every broken configuration exactly what the loader says: it is the loader.
set -eu
: "${top_srcdir:=$(dirname "$0")/..}" "${top_builddir:=.}"
filters=$(mktemp -d "${TMPDIR:-/tmp}/fake-filters.XXXXXX")
trap 'rm -rf "$filters"' EXIT
for name in passthru guard buffer squeeze crypt replication index cache qos broken; do
    cp "$top_builddir/fake-module.so" "$filters/$name.so"
done

# All but where a filter was found, which the table of cases cannot know.
cat >"$filters/check" <<EOF
status=0
said=\$(SLUICE_FILTER_PATH=$filters "$top_builddir/sluice" check --config "\$1" 2>&1) || status=\$?
[ -z "\$said" ] || printf '%s\n' "\$said" | sed 's|$filters/broken.so: filter ?:|filter broken:|'
exit \$status
EOF
SLUICE_CHECK="sh $filters/check" sh "$top_srcdir/tests/test-config-errors.sh"

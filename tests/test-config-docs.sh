#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The manual pages of gateway.yaml and of a disk name every key with its type and default, and no other;
# their examples are good; and the pages are sound POD.
set -eu
: "${top_srcdir:=$(dirname "$0")/..}" "${top_builddir:=.}"
check=$top_builddir/tests/unit/config-check
tmp=$(mktemp -d "${TMPDIR:-/tmp}/config-docs.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

for page in gateway disk; do
    pod=$top_srcdir/docs/$page.yaml.pod
    "$check" --keys $page >"$tmp/keys"
    grep '^=item B<' "$pod" >"$tmp/items"
    diff -u "$tmp/keys" "$tmp/items"

    # An example is a block of lines that begins with the name of its file.
    conf=$tmp/$page
    mkdir -p "$conf/pki" "$conf/disks.d" "$conf/policies.d"
    touch "$conf/pki/ca.pem" "$conf/pki/gw-a.pem" "$conf/pki/gw-a.key"
    chmod 600 "$conf/pki/gw-a.key"
    echo "gateway: gw-a" >"$conf/gateway.yaml"
    awk -v conf="$conf" '
        /^=head1/ { example = /EXAMPLE/; file = "" }
        example && /^ # [a-z.\/0-9-]*\.yaml$/ { file = conf "/" $2; printf "" > file }
        example && file && /^ / { print substr($0, 2) > file }' "$pod"
    [ -n "$(ls "$conf/disks.d")" ]
    "$check" "$conf"

    command -v podchecker >/dev/null && podchecker -warnings "$pod"
done

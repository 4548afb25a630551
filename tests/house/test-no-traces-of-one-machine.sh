#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# No path of one developer's machine, no address of a package mirror or proxy stands in any file or name.
# Folders that the tests make for themselves come from mktemp.
. "$(dirname "$0")/functions.sh"

# Built of pieces, so that this file does not find itself.
pattern="(^|[^A-Za-z0-9_.\$}-])/(wo""rk|ro""ot|ho""me/[a-z]+|Us""ers)(/|\$|[^A-Za-z0-9_./-])"
hosts="pypi\\.""org|files\\.python""hosted|registry\\.npm""js|cra""tes\\.io|proxy\\.go""lang|arti""factory|deb\\.debi""an\\.org"
find_traces() {
    grep -nE "$pattern|$hosts" "$@" || true
}
echo "cd /wo""rk/x" >"$work/planted"
[ -n "$(find_traces "$work/planted")" ] || { echo "a planted path is not found"; exit 1; }
# shellcheck disable=SC2046 # names without blanks
find_traces $(sources '*') >"$work/wrong"
verdict "$work/wrong"

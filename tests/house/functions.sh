# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# functions.sh, to be sourced by the tests of the house rules.  `sources PATTERN...` prints the files of the
# project whose names match: what git knows (or would take) in a work tree, else what the tarball holds.
set -eu
: "${top_srcdir:=$(cd "$(dirname "$0")/../.." && pwd)}"
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-house.XXXXXX")
trap 'rm -rf "$work"' EXIT

all_sources() {
    if [ -d "$top_srcdir/.git" ]; then
        # A test may run as root in another user's tree.
        git -c safe.directory='*' ls-files --cached --others --exclude-standard
    else
        # What autoconf brings is no source of ours; builds lie in folders that have a config.status.
        find . -type d \( -name build-aux -o -name m4 -o -name autom4te.cache -o -name '_*' -o -name 'build*' \) -prune \
            -o -type f ! -name configure ! -name aclocal.m4 ! -name Makefile.in -print | sed 's|^\./||'
    fi
}

sources() {
    all_sources | while read -r file; do
        for pattern; do
            # shellcheck disable=SC2254 # the pattern is one
            case $file in $pattern) [ ! -f "$file" ] || echo "$file" ;; esac
        done
    done | sort -u
}

# verdict FILE: FILE lists what is wrong, and should be empty.
verdict() {
    cat "$1"
    [ ! -s "$1" ]
}
cd "$top_srcdir"

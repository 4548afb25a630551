#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every file of the repository is in the release, but git's own.
. "$(dirname "$0")/functions.sh"
[ -d "$top_srcdir/.git" ] || { echo "compares with git, and this is a tarball"; exit 77; }
: "${top_builddir:=$PWD}"
unset MAKEFLAGS MAKELEVEL || true
# A folder inside the build: distdir must be a relative name.
name=tarball-check.$$
trap 'rm -rf "$work"; chmod -R u+w "$top_builddir/$name" 2>/dev/null; rm -rf "$top_builddir/$name"' EXIT
make -s -C "$top_builddir" distdir distdir="$name" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
(cd "$top_builddir/$name" && find . -type f | sed 's|^\./||' | sort) >"$work/in-tarball"
git -c safe.directory='*' ls-files | grep -v '^\.git' | sort >"$work/in-git"
comm -23 "$work/in-git" "$work/in-tarball" | sed 's/$/: not in the tarball (EXTRA_DIST?)/' >"$work/wrong"
# And nothing that git does not know, but what autoconf makes.
comm -13 "$work/in-git" "$work/in-tarball" |
    grep -vE '^(build-aux/|m4/|configure$|aclocal\.m4$|Makefile\.in$|config\.h\.in$)' |
    sed 's/$/: in the tarball, but not in git/' >>"$work/wrong" || true
verdict "$work/wrong"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every C file is as clang-format, of the version in Debian 12, writes it.
. "$(dirname "$0")/functions.sh"
command -v clang-format >/dev/null || { echo "needs clang-format"; exit 77; }
version=$(clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')
[ "$version" = 14 ] || { echo "needs clang-format 14, this is $version: other versions write otherwise"; exit 77; }
printf 'int a( void ){return 0;}\n' | clang-format --style=file --assume-filename="$top_srcdir/a.c" |
    grep -q '^int a(void)$' || { echo "clang-format does not read .clang-format"; exit 1; }
# shellcheck disable=SC2046 # names without blanks
clang-format --dry-run $(sources '*.[ch]') 2>"$work/wrong"
grep 'warning:' "$work/wrong" | cut -d: -f1 | sort | uniq -c >"$work/files" || true
[ ! -s "$work/files" ] || { echo "to be mended by clang-format -i:"; cat "$work/files"; exit 1; }

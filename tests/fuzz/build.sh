# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# build.sh, to be sourced: build_target NAME OUT FLAG... makes fuzz-NAME from the sources with clang, for
# the scripts that want it built in a way of their own.  Exits 77 where there is no clang.
: "${top_srcdir:=$(dirname "$0")/../..}"
clang=${CLANG:-clang}
command -v "$clang" >/dev/null || {
    echo "needs clang"
    exit 77
}
build_target() {
    target=$1 out=$2
    shift 2
    sources=
    for file in "$top_srcdir"/gateway/config/*.c; do
        case $(basename "$file") in lookup.c | manifest-file.c) ;; *) sources="$sources $file" ;;
        esac
    done
    # shellcheck disable=SC2046,SC2086 # lists of words
    "$clang" -std=gnu11 -D_GNU_SOURCE -O1 -g -I"$top_srcdir/gateway" -I"$top_srcdir/filters" "$@" \
        "$top_srcdir/tests/fuzz/fuzz-$target.c" "$top_srcdir/tests/unit/fake-filters.c" \
        "$top_srcdir/tests/unit/fake-tables.c" $sources \
        "$top_srcdir/gateway/base/err.c" "$top_srcdir/gateway/base/text.c" \
        "$top_srcdir/gateway/base/uuid.c" \
        $(pkg-config --cflags --libs yaml-0.1 jansson libcrypto) -o "$out"
}

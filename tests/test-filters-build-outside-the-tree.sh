#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# passthru, qos, cache and replication build from copies of their folders (the last two with that of common/ beside
# them) with the installed header and pkg-config alone (replication: and OpenSSL's), without a warning, with every
# compiler there is; and every filter exports one symbol.
set -eu
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}"
: "${top_builddir:=$PWD}"
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-test.XXXXXX")
trap 'rm -rf "$work"' EXIT

for program in pkg-config nm cc; do
    command -v $program >/dev/null 2>&1 || {
        echo "needs $program, which is not installed"
        exit 77
    }
done

# An installation of the header alone.
mkdir -p "$work/prefix/include" "$work/prefix/lib/pkgconfig"
cp "$top_srcdir/filters/sluice-filter.h" "$work/prefix/include/"
sed -e "s|^prefix=.*|prefix=$work/prefix|" -e 's|^exec_prefix=.*|exec_prefix=${prefix}|' \
    -e 's|^libdir=.*|libdir=${prefix}/lib|' -e 's|^includedir=.*|includedir=${prefix}/include|' \
    -e 's|^filterdir=.*|filterdir=${libdir}/sluice/filters|' \
    "$top_builddir/filters/sluice-filter.pc" >"$work/prefix/lib/pkgconfig/sluice-filter.pc"
PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags sluice-filter)
[ "$(pkg-config --variable=filterdir sluice-filter)" = "$work/prefix/lib/sluice/filters" ]

one_symbol() {
    symbols=$(nm -D --defined-only "$1" | awk '{ print $NF }')
    [ "$symbols" = sluice_filter_table ] || {
        echo "$1 exports: $symbols"
        exit 1
    }
}

for cc in gcc clang; do
    command -v $cc >/dev/null 2>&1 || continue
    mkdir -p "$work/$cc"
    cp -r "$top_srcdir/filters/common" "$work/$cc/"
    for filter in passthru qos cache replication; do
        rm -rf "$work/$cc/$filter"
        cp -r "$top_srcdir/filters/$filter" "$work/$cc/$filter"
        rm -f "$work/$cc/$filter/cache-sim.c" # a program
        common=
        case $filter in cache | replication) common="-D_GNU_SOURCE -I.. ../common/*.c" ;; esac
        [ $filter != replication ] || common="$common $(pkg-config --cflags --libs libcrypto)"
        # shellcheck disable=SC2086 # words
        (cd "$work/$cc/$filter" &&
            $cc -std=gnu11 -Wall -Wextra -Wshadow -Werror -O2 -fPIC -shared -fvisibility=hidden -pthread \
                $flags ./*.c $common -o $filter.so)
        one_symbol "$work/$cc/$filter/$filter.so"
    done
done

# The command that stands in the template's first lines.
(cd "$work" && cc -shared -fPIC $flags -o passthru.so "$top_srcdir/filters/passthru/passthru.c")
one_symbol "$work/passthru.so"
[ "$(wc -l <"$top_srcdir/filters/passthru/passthru.c")" -le 60 ]

# And those of the build.
for built in passthru qos cache replication; do
    one_symbol "$top_builddir/$built.so"
done
for built in "$top_builddir"/tests/filters/*.so; do
    one_symbol "$built"
done

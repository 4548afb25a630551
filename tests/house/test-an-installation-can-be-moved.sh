#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# `make install` into a fresh folder; the installed sluice serves a disk through an installed filter.  Then the
# folder is moved, and it serves again: program, plugin and filters find each other from where they lie.
. "${top_srcdir:-.}/tests/functions.sh"
unset MAKEFLAGS MAKELEVEL SLUICE_PLUGIN SLUICE_FILTER_PATH
# DESTDIR is how a fresh folder is had from any configuration; what was compiled in is then wrong, as after a move.
make -s -C "$top_builddir" install DESTDIR="$work/installed" >"$work/log" 2>&1 || fail "make install"
program=$(find "$work/installed" -type f -name sluice -perm -100 -path '*/bin/*')
[ "$(echo "$program" | wc -l)" -eq 1 ] && [ -n "$program" ] || fail "there is no one bin/sluice: $program"

serves_from() {
    sluice_program=$1/bin/sluice
    serve
    case $(grep -o '/.*nbdkit-sluice-plugin.so' "/proc/$gateway/maps" | head -n 1) in
    "$1"/*) ;;
    *) fail "the plugin does not come from $1" ;;
    esac
    grep -q "$1/.*passthru.so" "/proc/$gateway/maps" || fail "the filter does not come from $1"
    qemu-io -f raw -c "$2" "$(uri a)" | grep -q '4096/4096' || fail "$2"
    stop
}
make_config
disk a <<END
size: 1MiB
backing: { file: $work/a.raw }
filters: [passthru: {}]
END
prefix=${program%/bin/sluice}
serves_from "$prefix" "write -P 0x11 4096 4096"
mv "$prefix" "$work/else where"
serves_from "$work/else where" "read -P 0x11 4096 4096"

# `make install` cannot do it there: configure says so.
configure=$(realpath "$top_srcdir/configure")
if [ -x "$configure" ]; then
    mkdir "$work/build" && cd "$work/build" || fail "no folder"
    ! "$configure" --prefix="$work/else where" >"$work/log" 2>&1 || fail "configure takes a name with a blank"
    grep -q "has a blank" "$work/log" || fail "configure says: $(tail -n 3 "$work/log")"
fi

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
# What a target is made of beside itself: the room it looks into, with the rooms before it that it needs.
sources_of() {
    case $1 in
    scsi-*)
        for room in base io backing engine disk host config scsi; do
            echo "$top_srcdir/gateway/$room"/*.c
        done
        ;;
    peer-*)
        for name in peer/frame base/err base/text base/crc32c; do
            echo "$top_srcdir/gateway/$name.c"
        done
        ;;
    replication-*)
        for name in replication/frames replication/lineage common/crc; do
            echo "$top_srcdir/filters/$name.c"
        done
        ;;
    control)
        for name in control/request base/err base/text; do
            echo "$top_srcdir/gateway/$name.c"
        done
        ;;
    iscsi-*)
        for name in iscsi/pdu iscsi/keys iscsi/negotiate iscsi/chap iscsi/login base/err base/text base/crc32c; do
            echo "$top_srcdir/gateway/$name.c"
        done
        ;;
    *)
        for file in "$top_srcdir"/gateway/config/*.c; do
            case $(basename "$file") in lookup.c | manifest-file.c) ;; *) echo "$file" ;; esac
        done
        echo "$top_srcdir/gateway/base/err.c $top_srcdir/gateway/base/text.c $top_srcdir/gateway/base/uuid.c"
        echo "$top_srcdir/tests/unit/fake-filters.c $top_srcdir/tests/unit/fake-tables.c"
        ;;
    esac
}
build_target() {
    target=$1 out=$2
    shift 2
    # shellcheck disable=SC2046 # lists of words
    "$clang" -std=gnu11 -D_GNU_SOURCE -DSLUICE_NBDKIT='"nbdkit"' -DSLUICE_SYSCONFDIR='"/etc"' \
        -DSLUICE_PLUGINDIR='"/nowhere"' -DSLUICE_FILTERDIR='"/nowhere"' -DSLUICE_KITDIR='"/nowhere"' -O1 -g -pthread \
        -iquote "$top_srcdir/gateway" -I"$top_srcdir/filters" "$@" "$top_srcdir/tests/fuzz/fuzz-$target.c" \
        $(sources_of "$target") \
        $(pkg-config --cflags --libs yaml-0.1 jansson libcrypto libnbd libiscsi liburing) -o "$out"
}

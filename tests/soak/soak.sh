#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The long forms of tests that `make check` runs shortly, one after the other; all run, and the last line names
# those that failed.
#
# RELOADS (1000)        reloads under a verifying load at depth 32, requests deferred at every swap
# RESTARTS (100)        restarts by SIGTERM, and as many by kill -9, under a verifying load
# KILLS (500)           kills of a gateway with a write-back cache under a verifying load, each followed by one amid
#                       the recovery
# PAIR_KILLS (300)      faults of a pair of gateways between which disks are replicated, under load
# GROUP_KILLS (100)     the same of three groups of three disks, each of which is one instant
# CACHED_PAIR (308)     the same above a cache on both sides, in all combinations of their modes, half of them with power cuts
# GUEST_KILLS (10)      the same with a guest that keeps a data base there
# MODEL_SECONDS (600)   a cache under whatever may happen to a disk, beside a model of it, under each sanitizer
# STORM_SECONDS (60)    every verdict at random from many threads, under the thread sanitizer
# TSAN_BUILD            a folder built with --enable-sanitizers=thread (default: the one ./check leaves)
# ASAN_BUILD            the same with address,undefined
set -u
: "${top_srcdir:=$(cd "$(dirname "$0")/../.." && pwd)}"
: "${RELOADS:=1000}" "${RESTARTS:=100}" "${KILLS:=500}" "${GUEST_KILLS:=10}" "${PAIR_KILLS:=300}" "${GROUP_KILLS:=100}" "${MODEL_SECONDS:=600}" "${STORM_SECONDS:=60}"
: "${CACHED_PAIR:=308}" "${TSAN_BUILD:=$top_srcdir/build-check/tsan}" "${ASAN_BUILD:=$top_srcdir/build-check/asan}"
export top_srcdir RELOADS RESTARTS KILLS
failed=

soak() {
    printf '== %s (%s)\n' "$1" "$(date +%H:%M:%S)"
    shift
    "$@" || failed="$failed $(basename "$1")"
}

soak "$RELOADS reloads" "$top_srcdir/tests/test-reloads-under-load.sh"
soak "$RESTARTS restarts of each kind" "$top_srcdir/tests/test-gateway-restarts-lose-nothing.sh"
soak "$KILLS kills of a cache" "$top_srcdir/tests/test-cache-survives-kill.sh"
soak "what another cache loses, in more sizes" env SIZES="1 2 8 24 48" "$top_srcdir/tests/test-cache-write-back-loses-nothing.sh"
soak "a write whose data never comes" env SLOW=1 "$top_srcdir/tests/test-iscsi-bad-input.sh"
soak "a guest behind an address that moves" "$top_srcdir/tests/test-guest-floating-address.sh"
soak "a guest with two paths" "$top_srcdir/tests/test-guest-multipath.sh"
soak "a data base in a guest, $GUEST_KILLS kills" env GUEST_KILLS="$GUEST_KILLS" GUEST_ROWS=200 "$top_srcdir/tests/test-guest-database.sh"
soak "$PAIR_KILLS faults of a pair" env RUNS="$PAIR_KILLS" "$top_srcdir/tests/test-replication-survives-kills.sh"
soak "$PAIR_KILLS kills of a pair with records on SSD" env RUNS_OF_SPILL="$((PAIR_KILLS / 3))" "$top_srcdir/tests/test-replication-spill.sh"
soak "$GROUP_KILLS faults of groups" env RUNS="$GROUP_KILLS" "$top_srcdir/tests/test-replication-group.sh"
for mode in sync-received-hold sync-received-degrade sync-journaled-hold sync-journaled-degrade sync-applied-hold \
    sync-applied-degrade async-none-none; do
    for power in '' cut; do
        soak "$((CACHED_PAIR / 14)) faults of a cached pair, $mode ${power:+with power cuts}" env RUNS=$((CACHED_PAIR / 14)) POWER=$power \
            GROUP="$mode-back-back $mode-back-through $mode-through-back $mode-through-through" \
            "$top_srcdir/tests/test-replication-over-cache.sh"
    done
done
# soak_in FOLDER PROGRAM SECONDS [ARGUMENT...]: of a build with a sanitizer.
soak_in() {
    folder=$1 program=$2
    shift 2
    if [ -x "$folder/$program" ]; then
        soak "$(basename "$program") for $1 s in $folder" "$folder/$program" "$@"
    else
        echo "== no $folder/$program: ./check builds it, or set TSAN_BUILD and ASAN_BUILD"
        failed="$failed $(basename "$program")-without-a-build"
    fi
}

soak_in "$TSAN_BUILD" tests/unit/test-engine-storm "$STORM_SECONDS"
# Each run tries other things.
soak_in "$TSAN_BUILD" tests/unit/test-cache-model "$MODEL_SECONDS" "$(date +%s)"
soak_in "$ASAN_BUILD" tests/unit/test-cache-model "$MODEL_SECONDS" "$(date +%s)"
[ -z "$failed" ] || echo "failed:$failed"
[ -z "$failed" ]

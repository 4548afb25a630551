#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A scan does not push out what is read again and again: in the simulator, where each policy misses less of a hot set
# with bypass_after than without; and in a gateway whose LRU cache, without it, forgets the hot set.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq

# A scan of 100000 blocks, three times; for each 4 blocks of it one of 2000 hot ones.
awk 'BEGIN { srand(1); for (s = 0; s < 3; s++) for (b = 0; b < 100000; b++) {
    print b, 1; if (b % 4 == 0) print 1000000 + int(rand() * 2000), 1 } }' >"$work/trace"
hot_misses() { # POLICY OPTION...: of 1000 reads of a hot block; the cache has room for twice as many
    policy=$1
    shift
    "$top_builddir/filters/cache/cache-sim" --policy "$policy" --ram 25 "$@" 4 <"$work/trace" | jq '(.misses - 300000) * 1000 / 75000 | floor'
}
for policy in s3-fifo lru arc; do
    without=$(hot_misses $policy) with=$(hot_misses $policy --bypass-after 4096)
    echo "$policy: of 1000 reads of the hot set $without miss without bypass_after, $with with it"
    [ $((with * 2)) -lt "$without" ] || fail "$policy: bypass_after does not help"
done

make_config
truncate -s 64M "$work/d.raw"
with_option() {
    disk d <<END
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 8MiB, policy: lru$1 }
END
}
misses() {
    sluice metrics | sed -n 's/^sluice_cache_misses[^ ]* //p'
}
hot() { # 1 MiB at the end, in the blocks' order but for every second one, which comes later
    set --
    for from in 0 4; do
        for i in $(seq "$from" 8 1023); do set -- "$@" -c "read $((63 * 1024 + i))k 4k"; done
    done
    qemu-io -f raw "$(uri d)" "$@" >/dev/null || fail "qemu-io"
}
scan() {
    set --
    for i in $(seq 0 511); do set -- "$@" -c "read $((i * 64))k 64k"; done
    qemu-io -f raw "$(uri d)" "$@" >/dev/null || fail "qemu-io"
}
# again OPTION: how many blocks of the hot set are missed after a scan of 32 MiB.
again() {
    with_option "$1"
    serve
    hot
    scan
    before=$(misses)
    hot
    echo $(($(misses) - before))
    stop TERM
}
again ', bypass_after: 4MiB' >"$work/with" || exit 1
again '' >"$work/without" || exit 1
echo "of 256 hot blocks $(cat "$work/without") are missed after a scan, with bypass_after $(cat "$work/with")"
[ "$(cat "$work/with")" = 0 ] || fail "the scan has pushed out the hot set"
[ "$(cat "$work/without")" -gt 200 ] || fail "without bypass_after it is there as well; this test shows nothing"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The SSD of a write-back cache takes nothing more (a limit of the gateway's file sizes), with dirty data on it: no
# request fails, all of it gets to the backing, and writes go there at once.  After kill -9 the old tier brings nothing
# back, neither dirty nor clean, and is made anew; where its storage is gone, the disk is served without it.  Killed
# before the tier has been emptied, the disk wants it back, and finds all on it.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdkit prlimit
trap '' XFSZ # the gateway ignores it too
is_there() { test -S "$work/$1.sock"; }
for name in d slow; do
    truncate -s 16M "$work/$name.raw"
    nbdkit -f -U "$work/$name.sock" --filter=delay file "$work/$name.raw" \
        wdelay="$([ $name = slow ] && echo 500ms || echo 0ms)" >>"$work/log" 2>&1 &
    children="$children $!"
    within 20 is_there $name || fail "no nbdkit"
done
make_config
mkdir "$work/ssd"
for name in d slow; do
    disk $name <<END
backing: { nbd: 'nbd+unix:///?socket=$work/$name.sock' }
filters:
  - cache: { ram: 64KiB, ssd: { path: $work/ssd/$name, size: 8MiB }, dirty: { soft: 80, hard: 90 }, destage: { after: 1h, depth: 1 } }
END
done
io() { # DISK COMMAND...
    name=$1
    shift
    for command; do set -- "$@" -c "$command"; shift; done
    qemu-io -f raw "$(uri "$name")" "$@" >"$work/out" 2>&1 && ! grep -qE "failed|error" "$work/out"
}
status() { # DISK FIELD
    sluice cache status "$1" --json | jq -r ".$2"
}
fail_tier() {
    prlimit --pid "$gateway" --fsize=1048576 || fail "prlimit"
}
is_empty() { [ "$(status "$1" dirty_bytes)" = 0 ]; }

serve
io d "write -P 1 0 2M" "write -P 1 3M 64k" flush "read -P 1 3M 64k" || fail "the load: $(cat "$work/out")"
[ "$(status d dirty_bytes)" -ge 2097152 ] || fail "nothing is dirty; this test shows nothing"
fail_tier
io d "write -P 2 4M 64k" flush || fail "a write fails: $(cat "$work/out")"
io d "write -P 3 0 64k" "write -P 3 3M 64k" flush || fail "a write to what was dirty fails: $(cat "$work/out")"
[ "$(status d tier)" = failed ] || fail "the tier has not failed; this test shows nothing"
io d "read -P 3 0 64k" "read -P 1 64k 1984k" "read -P 3 3M 64k" "read -P 2 4M 64k" || fail "reads: $(cat "$work/out")"
within 20 is_empty d || fail "the tier is not emptied: $(sluice cache status d)"
sluice status | grep -q "the cache's tier failed; the backing has all of it" || fail "health: $(sluice status)"
qemu-io -f raw -c "read -P 3 0 64k" -c "read -P 1 64k 1984k" -c "read -P 2 4M 64k" "$work/d.raw" >"$work/out" 2>&1
grep -q "verification failed" "$work/out" && fail "the backing has something else: $(cat "$work/out")"
echo "failed with 2 MiB dirty: nobody noticed, the backing has all"
stop KILL
serve
io d "read -P 3 0 64k" "read -P 1 64k 1984k" "read -P 3 3M 64k" "read -P 2 4M 64k" || fail "after kill -9: $(cat "$work/out")"
[ "$(status d tier)" = "in use" ] || fail "the tier is not used again"
sluice status | grep -q "tier failed" && fail "health still says so"
echo "after kill -9: the tier is new, the data is right"

# Storage that is gone for good.
io d "write -P 4 1M 2M" flush || fail "the load: $(cat "$work/out")"
fail_tier
io d "write -P 5 5M 64k" flush || fail "a write fails: $(cat "$work/out")"
within 20 is_empty d || fail "the tier is not emptied: $(sluice cache status d)"
stop KILL
mv "$work/ssd" "$work/old"
serve
io d "read -P 4 1M 2M" "write -P 6 1M 64k" flush "read -P 5 5M 64k" || fail "without the tier: $(cat "$work/out")"
[ "$(status d tier)" = failed ] || fail "the status does not say that the tier is not there"
sluice cache status d | grep -q "^ssd .*cannot be used" || fail "status: $(sluice cache status d)"
echo "without its storage: the disk is served"
stop KILL
mv "$work/old" "$work/ssd"
serve
io d "read -P 6 1M 64k" "read -P 4 1088k 1984k" || fail "an old tier brings back old data: $(cat "$work/out")"
echo "the old tier back again: nothing old"

# Killed before all of it is in the backing.
for i in $(seq 0 29); do set -- "$@" "write -P 7 $((i * 256))k 4k"; done
io slow "write -P 6 9M 2M" flush || fail "the load: $(cat "$work/out")"
sluice cache flush slow >/dev/null || fail "flush"
io slow "$@" flush || fail "the load: $(cat "$work/out")"
fail_tier
io slow "write -P 8 8M 4k" flush || fail "a write fails: $(cat "$work/out")"
left=$(status slow dirty_bytes)
stop KILL
[ "$left" -gt 0 ] || fail "all was brought to the backing; this test shows nothing"
mv "$work/ssd" "$work/old"
serve
io slow "read 0 4k" && fail "served without a tier that holds its newest data"
sluice status >"$work/status" 2>&1
grep -q "newest data" "$work/status" "$work/log" || fail "does not say why: $(cat "$work/status")"
stop KILL
mv "$work/old" "$work/ssd"
serve
for i in $(seq 0 29); do set -- "$@" "read -P 7 $((i * 256))k 4k"; shift; done
io slow "$@" "read -P 8 8M 4k" "read -P 6 9M 2M" || fail "with the tier back: $(cat "$work/out")"
echo "killed with $left bytes on the failed tier alone: refused without it, whole with it"
stop TERM

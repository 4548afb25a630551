#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk whose newest data is in the cache is not served without it: not when the filter was taken out
# of the policy while the gateway was down, nor without its tier, nor with another disk's.  Taken out
# while the gateway runs, the cache brings everything to the backing first.
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
. "${top_srcdir:-.}/tests/functions.sh"
requires jq nbdsh
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
with_cache() {
    disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 1MiB, ssd: { tier: ssd0, size: 8MiB }, destage: { after: 1h } }
END
}
without_cache() {
    printf 'size: 16MiB\nbacking: { file: %s/d.raw }\n' "$work" | disk d
}
must_be_refused() {
    serve
    nbdsh -u "$(uri d)" -c 'h.pread(512, 0)' >/dev/null 2>&1 && fail "served $1"
    sluice status >"$work/status" 2>&1
    grep -q "$2" "$work/status" "$work/log" || fail "does not say why: $(cat "$work/status")"
    stop KILL
    echo "refused $1"
}
with_cache
serve
nbdsh -u "$(uri d)" -c 'h.pwrite(b"x" * 65536, 0); h.flush()'
[ "$(head -c 1 "$work/d.raw")" = x ] && fail "the data is in the backing already; this test shows nothing"
stop TERM
without_cache
must_be_refused "without the filter" "may hold data"
with_cache
mv "$work/ssd" "$work/gone"
must_be_refused "without the tier" "mounted"
mkdir "$work/ssd"
must_be_refused "with an empty tier" "bring it back"
rm -r "$work/ssd"
mv "$work/gone" "$work/ssd"
serve
nbdsh -u "$(uri d)" -c 'assert h.pread(65536, 0) == b"x" * 65536'
without_cache
sluice reload || fail "the cache could not be taken out"
[ "$(head -c 1 "$work/d.raw")" = x ] || fail "taken out, and the data is not in the backing"
stop TERM
serve
nbdsh -u "$(uri d)" -c 'assert h.pread(65536, 0) == b"x" * 65536'
stop TERM

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A write-back cache under a verifying load that reconnects and replays; the gateway is ended by
# kill -9 KILLS times (default 5) and once by SIGTERM, and each time its successor is killed too, while it recovers
# or soon after.  No acknowledged write is lost, no byte is wrong, the gateway is back in
# under a second, and what is cached is warm.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
disk d <<END
size: 64MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 1MiB, ssd: { tier: ssd0, size: 16MiB }, destage: { after: 200ms } }
END
serve
"$nbd_load" "$(uri d)" --seconds 600 --reconnect 20 --flush-every 64 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
cached() {
    sluice cache status d --json | jq -e '.cached_bytes > 4194304' >/dev/null
}
has_tier_open() {
    ls -l "/proc/$gateway/fd" 2>/dev/null | grep -q "$work/ssd/"
}
# Once it has opened the tier it recovers: killed then, or a little later, as it falls out.
begin_and_kill() {
    "$sluice_program" serve --config "$config" >>"$work/log" 2>&1 &
    gateway=$!
    for _ in $(seq 5000); do
        has_tier_open && break
    done
    has_tier_open || fail "the tier is not opened"
    sleep "0.0$(shuf -i 0-20 -n 1)"
    stop KILL
}
for i in $(seq "${KILLS:-5}"); do
    within 20 cached || fail "the cache does not fill: $(sluice cache status d)"
    kill -0 $load || fail "the load has ended: $(cat "$work/load.err")"
    [ "$i" = 1 ] && stop TERM || stop KILL
    begin_and_kill
    start=$(date +%s%N)
    serve
    ms=$((($(date +%s%N) - start) / 1000000))
    echo "restart $i: ready after $ms ms, $(sluice cache status d --json | jq .cached_bytes) bytes cached"
    [ $ms -lt 2000 ] || fail "ready only after $ms ms"
    cached || fail "the cache is cold after a restart"
done
kill -TERM $load
wait $load || fail "the load failed: $(cat "$work/load.json" "$work/load.err")"
cat "$work/load.json"
# Emptied, the backing alone holds the same.
nbdcopy "$(uri d)" "$work/copy.raw"
sluice cache flush d
sluice cache status d --json | jq -e '.dirty_bytes == 0' >/dev/null || fail "flush left dirty data"
cmp "$work/copy.raw" "$work/d.raw" || fail "the emptied cache's backing differs from the disk"
stop TERM

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Under a verifying load that reconnects and replays, the gateway is ended by SIGTERM and by kill -9
# in turn (RESTARTS of each, default 3).  No request fails, no byte is wrong, and after kill -9 a new
# serve is ready in under a second.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq
make_config
disk d <<END
size: 64MiB
backing: { file: $work/d.raw }
filters:
  - passthru: {}
END
serve
"$nbd_load" "$(uri d)" --seconds 600 --reconnect 20 --flush-every 64 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
for i in $(seq "${RESTARTS:-3}"); do
    for signal in TERM KILL; do
        before=$(grep -c . "$work/load.err")
        sleep 0.3 # lets the load get on: pace, not a wait
        kill -0 $load || fail "the load has ended: $(cat "$work/load.err")"
        stop $signal
        start=$(date +%s%N)
        serve
        ms=$((($(date +%s%N) - start) / 1000000))
        echo "restart $i by $signal: ready after $ms ms"
        [ $ms -lt 1000 ] || fail "ready only after $ms ms"
    done
done
kill -TERM $load
wait $load || fail "the load failed: $(cat "$work/load.json" "$work/load.err")"
cat "$work/load.json"
[ "$(field "$(cat "$work/load.json")" reconnects)" -ge "${RESTARTS:-3}" ] || fail "the load was never disconnected"
stop TERM

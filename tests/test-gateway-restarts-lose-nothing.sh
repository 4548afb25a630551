#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Under a verifying load that reconnects and replays, the gateway is ended by SIGTERM and by kill -9
# in turn (RESTARTS of each, default 3): of a disk that answers at once, and of one whose requests wait, many at
# once.  No request fails, no byte is wrong, and after kill -9 a new serve is ready in under a second.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq
make_config
for name in quick late; do
    disk $name <<END
size: 16MiB
backing: { file: $work/$name.raw }
filters:
  - passthru: {}
END
done
sed -i 's/passthru: {}/delay: { op: all, time: 2ms, spread: 2ms }/' "$config/disks.d/late.yaml"
serve
for name in quick late; do
    "$nbd_load" "$(uri $name)" --seconds 600 --depth 32 --blocks 1024 --reconnect 20 --flush-every 64 >"$work/$name.json" 2>"$work/$name.err" &
    children="$children $!"
    echo $! >"$work/$name.pid"
done
for i in $(seq "${RESTARTS:-3}"); do
    for signal in TERM KILL; do
        sleep 0.3 # lets the load get on: pace, not a wait
        for load in $children; do kill -0 "$load" || fail "a load has ended: $(cat "$work"/*.err)"; done
        stop $signal
        start=$(date +%s%N)
        serve
        ms=$((($(date +%s%N) - start) / 1000000))
        echo "restart $i by $signal: ready after $ms ms"
        [ $ms -lt 1000 ] || fail "ready only after $ms ms"
    done
done
for name in quick late; do
    load=$(cat "$work/$name.pid")
    kill -TERM "$load"
    wait "$load" || fail "the load of $name failed: $(cat "$work/$name.json" "$work/$name.err")"
    cat "$work/$name.json"
    [ "$(field "$(cat "$work/$name.json")" reconnects)" -ge "${RESTARTS:-3}" ] || fail "the load of $name was never disconnected"
done
stop TERM

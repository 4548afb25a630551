#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients that vanish amid the replies to large reads, TIMES times (default 100) by TCP and as often by a
# Unix socket, while another client verifies what it wrote: that one sees nothing of it, and of those
# that are gone nothing stays: no session, no descriptor, no thread.
. "${top_srcdir:?}/tests/functions.sh"
requires jq python3
times=${TIMES:-100}
port=$(free_port)
make_config
sed -i "s/^  nbd: .*/  nbd: [\"unix:$(echo "$sock" | sed 's:/:\\/:g')\", \"127.0.0.1:$port\"]/" "$config/gateway.yaml"
disk d <<END
size: 64MiB
backing: { file: $work/d.raw }
filters:
  - qos: { iops: 100000 }
  - passthru: {}
END
serve
"$nbd_load" "$(uri d)" --seconds 600 --depth 8 --flush-every 64 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
clients() { sluice disk show d --json | jq '.clients | length'; }
has_clients() { [ "$(clients)" = "$1" ]; }
threads() { find "/proc/$gateway/task" -mindepth 1 -maxdepth 1 | wc -l; }
descriptors() { find "/proc/$gateway/fd" -mindepth 1 -maxdepth 1 | wc -l; }
within 10 has_clients 1 || fail "the verifying client does not come"
# Whatever is made for the first client that reads is made before the line is drawn.
nbdcopy "$(uri d)" null: || fail "nothing can be read"
within 10 has_clients 1 || fail "a client that left is still listed"
threads_before=$(threads) descriptors_before=$(descriptors)

"$python" "$top_srcdir/tests/vanishing-client.py" "$port" d "$times" >"$work/tcp.log" 2>&1 &
tcp=$!
"$python" "$top_srcdir/tests/vanishing-client.py" "$sock" d "$times" >"$work/unix.log" 2>&1 &
unix=$!
children="$children $tcp $unix"
wait $tcp || fail "by TCP: $(tail -n 3 "$work/tcp.log")"
wait $unix || fail "by a Unix socket: $(tail -n 3 "$work/unix.log")"

kill -0 "$gateway" 2>/dev/null || fail "the gateway is gone"
within 20 has_clients 1 || fail "$(clients) clients are listed, of which one is there"
are_gone() { [ "$(threads)" -le "$threads_before" ] && [ "$(descriptors)" -le "$descriptors_before" ]; }
within 20 are_gone || fail "threads: $threads_before before, $(threads) after; descriptors: $descriptors_before before, $(descriptors) after"
kill -TERM $load
wait $load || fail "the verifying client failed: $(cat "$work/load.json" "$work/load.err")"
cat "$work/load.json"
echo "$((2 * times)) clients vanished; $(threads) threads, $(descriptors) descriptors"
stop TERM

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A load that knows what each block must have, over iSCSI to a gateway that is killed by SIGKILL five
# times amid it: no wrong byte, and what was flushed is in the backing at once.
. "${top_srcdir:?}/tests/backing-functions.sh"
need jq
export SLUICE_PLUGIN=$top_builddir/nbdkit-sluice-plugin.so SLUICE_FILTER_PATH=$top_builddir
portal=127.0.0.1:$(free_port)
mkdir -p "$dir/etc/disks.d"
cat >"$dir/etc/gateway.yaml" <<END
gateway: gw-test
state: $dir/state
listen: { nbd: ["unix:$dir/nbd.sock"], iscsi: ["$portal"], control: "unix:$dir/control.sock" }
END
cat >"$dir/etc/disks.d/d.yaml" <<END
size: 32MiB
backing: { file: $dir/d.raw }
export: { iscsi: { target: d } }
END
start_gateway() {
    server gateway "$top_builddir/sluice" serve --config "$dir/etc"
    until_true 20 is_listening || fail "the gateway does not start"
}
is_listening() { "$top_builddir/sluice" status --config "$dir/etc" >/dev/null 2>&1; }
start_gateway
drive kind=iscsi uri="iscsi://$portal/iqn.2024-01.org.sluice:d/0"
expect_open ok
# The gateway ends with who started it, so the killing is done here.
echo "load 7 8 8192 $dir/d.raw" >&"$to"
writes() { "$top_builddir/sluice" disk show d --json --config "$dir/etc" | jq -e '.io.operations.write.requests >= 100' >/dev/null; }
for _ in 1 2 3 4 5; do
    until_true 10 writes || fail "nothing is written"
    kill_server gateway
    start_gateway
done
read -r -t 60 -u "$from" answer || answer="error: no answer"
case $answer in ok*) ;; *) tail "$dir"/*.log; fail "$answer" ;; esac
echo "$answer"
[ "$(answer_number reconnects)" -ge 5 ] || fail "it was not killed five times"
[ "$(answer_number errors)" = 0 ] || fail "the load saw errors"
expect ok verify
expect ok flush
quit

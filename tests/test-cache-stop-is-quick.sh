#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The last client leaves while the cache brings scattered blocks to a backing that takes a second for each write: the
# next client is served at once.  The gateway then stops amid the same, after a write or two and not after all of them,
# and what was written is there in the next.
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdsh nbdkit
truncate -s 16M "$work/backing.raw"
nbdkit -f -U "$work/backing.sock" --filter=delay file "$work/backing.raw" wdelay=1 >>"$work/log" 2>&1 &
children=$!
is_there() { test -S "$work/backing.sock"; }
within 20 is_there || fail "no nbdkit"
make_config
disk d <<END
backing: { nbd: 'nbd+unix:///?socket=$work/backing.sock' }
filters:
  - cache: { ram: 64KiB, ssd: { path: $work/tier, size: 8MiB }, destage: { after: 0s, depth: 1 } }
END
serve
# Leaves when the first block is in the backing: 39 s of work are left.
nbdsh -u "$(uri d)" -c '
import time
for i in range(40): h.pwrite(b"x" * 4096, i << 18)
h.flush()
deadline = time.monotonic() + 60
with open("'"$work"'/backing.raw", "rb", 0) as f:
    while f.seek(0) or f.read(1) != b"x":
        assert time.monotonic() < deadline, "nothing is destaged"
        time.sleep(0.01)' || fail "the first client"
took() {
    echo $((($(date +%s%N) - began) / 1000000))
}
dirty() {
    sluice cache status d --json | jq -e .dirty_bytes
}
began=$(date +%s%N)
nbdsh -u "$(uri d)" -c 'assert h.pread(4096, 39 << 18) == b"x" * 4096' || fail "the next client is not served"
ms=$(took)
[ "$(dirty)" -gt 0 ] || fail "nothing was left to do; this test shows nothing"
echo "the next client was served after $ms ms, with $(dirty) bytes to be destaged"
[ "$ms" -lt 8000 ] || fail "the next client waited"
left=$(dirty)
[ "$left" -gt $((12 * 4096)) ] || fail "only $left bytes are left to be destaged; this test shows nothing"
began=$(date +%s%N)
stop TERM
ms=$(took)
echo "SIGTERM: ended after $ms ms, with $left bytes to be destaged"
[ "$ms" -lt 8000 ] || fail "the stop waited for the destage"
serve
nbdsh -u "$(uri d)" -c '
for i in range(40): assert h.pread(4096, i << 18) == b"x" * 4096, i' || fail "something is missing after the stop"
stop TERM

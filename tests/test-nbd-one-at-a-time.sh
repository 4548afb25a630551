#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A request that can be answered at once is answered by the thread that has read it; what has to be refused, what
# waits for a disk and what nbdkit's own filters have to see goes the long way, and the answers are the same.  Where its
# client sends nothing else meanwhile, what waits for something is waited for by that thread; else it holds up nothing.
. "${top_srcdir:?}/tests/functions.sh"
requires jq python3 qemu-io
: "${SEED:=$RANDOM}"
size=$((8 << 20))
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
disk quick <<END
size: 8MiB
backing: { file: $work/quick.raw }
filters:
  - passthru: {}
END
disk fixed <<END
size: 8MiB
read_only: true
backing: { file: $work/fixed.raw }
END
truncate -s 8M "$work/fixed.raw"
disk late <<END
size: 8MiB
backing: { file: $work/late.raw }
filters:
  - delay: { op: all, time: 1ms }
END
disk direct <<END
size: 8MiB
backing: { file: $work/direct.raw, direct: true }
END
disk cached <<END
size: 8MiB
backing: { file: $work/cached.raw }
filters:
  - cache: { ram: 1MiB, ssd: { tier: ssd0, size: 32MiB } }
END
disk writes-late <<END
size: 8MiB
backing: { file: $work/writes-late.raw }
filters:
  - delay: { op: write, time: 500ms }
END
serve
"$python" "$top_srcdir/tests/nbd-alone.py" "$sock" quick fixed $size "$gateway" "$SEED" || fail "seed $SEED"
"$python" "$top_srcdir/tests/nbd-alone-late.py" "$sock" late direct cached writes-late "$gateway" || fail "see above"
stop TERM

# A filter of nbdkit in front sees every request.
truncate -s 8M "$work/front.raw"
nbdkit --foreground --pidfile="$work/front.pid" --unix="$work/front.sock" --filter=log \
    "$top_builddir/nbdkit-sluice-plugin.so" disk="{ size: 8MiB, backing: { file: $work/front.raw } }" \
    logfile="$work/requests" >"$work/front.log" 2>&1 &
children="$children $!" turns=
is_there() { [ -s "$work/front.pid" ]; }
within 20 is_there || fail "nbdkit does not start: $(cat "$work/front.log")"
for pattern in 5 6 7; do
    turns="$turns -c 'write -q -P $pattern 0 4k' -c 'read -q -P $pattern 0 4k'"
done
eval "qemu-io -f raw $turns 'nbd+unix:///?socket=$work/front.sock'" || fail "qemu-io: $(cat "$work/front.log")"
seen=$(grep -c " \(Read\|Write\) id=" "$work/requests")
[ "$seen" -ge 6 ] || fail "the filter in front has seen $seen of 6 requests: $(cat "$work/requests")"
kill "$(cat "$work/front.pid")"

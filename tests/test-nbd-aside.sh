#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Requests that wait for something, many at once over one connection, are carried out in a loop, not by a thread each;
# one that fails there is told to the client as nbdkit would, in both forms of replies, and to the log.
. "${top_srcdir:?}/tests/functions.sh"
requires python3
size=$((8 << 20))
make_config
disk late <<END
size: 8MiB
backing: { file: $work/late.raw }
filters:
  - delay: { op: all, time: 5ms }
END
for name in faulty simply-faulty; do
    for op in 0:read 1:write; do
        disk "$name-${op%:*}" <<END
size: 8MiB
backing: { file: $work/$name-${op%:*}.raw }
filters:
  - delay: { op: all, time: 5ms }
  - fail: { op: ${op#*:}, error: 5, after: 64, times: 64 }
END
    done
done
serve
"$python" "$top_srcdir/tests/nbd-aside.py" "$sock" $size "$gateway" late faulty simply-faulty || fail "see above"
grep -q "failed: Input/output error disk=simply-faulty-1" "$work/log" || fail "the log does not tell of it"
stop TERM

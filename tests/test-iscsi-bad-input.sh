#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every group of what no initiator should send ends in the right reject, status or closed connection,
# and another session goes on; the gateway's memory does not grow with it.  SLOW=1 adds what ends after a minute.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq python3
make_iscsi_config
secret a.chap user:secret-of-the-host
disk a <<END
size: 16MiB
backing: { file: $work/a.raw }
export: { iscsi: { target: plain } }
END
disk b <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000b
backing: { file: $work/b.raw }
export: { iscsi: { target: secret, chap: a.chap } }
END
disk open <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000c
backing: { file: $work/open.raw }
export: { iscsi: { target: open } }
END
for i in $(seq 10 21); do # a list of targets that does not fit into one PDU
    disk "more-$i" <<END
size: 1MiB
backing: { file: $work/more-$i.raw }
export: { iscsi: { target: one-more-target-of-a-long-list-$i } }
END
done
serve
bad_input() {
    PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 \
        $python "$top_srcdir/tests/iscsi-bad-input.py" "$port" $prefix:plain $prefix:secret \
        0a1b2c3d-0000-4000-8000-00000000000b $prefix:open 0a1b2c3d-0000-4000-8000-00000000000c "$@"
}
peak() { sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$gateway/status"; }
before=$(peak)
bad_input >"$work/first" || fail "bad input: $(cat "$work/first")"
after=$(peak) # long_reads wants 100 MiB at once
[ $((after - before)) -lt 49152 ] || fail "the peak of resident memory went from $before to $after KiB"
resident() { sluice status --json | jq .process.resident_bytes; }
bad_input byte_by_byte ${SLOW:+no_data_at_all} || fail "bad input"
before=$(resident)
bad_input >"$work/again" || fail "bad input, the second time: $(cat "$work/again")"
after=$(resident)
[ $((after - before)) -lt 8388608 ] || fail "resident memory went from $before to $after bytes"
no_sessions() { [ "$(sluice status --json | jq '.iscsi_sessions | length')" = 0 ]; }
within 20 no_sessions || fail "sessions are left: $(sluice status --json | jq -c .iscsi_sessions)"
stop TERM

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Garbage, half lines, lines without end, too many clients and slow ones: the gateway stays, and answers those
# that behave; the disk is served all the while.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires python3 nbdinfo jq

make_config
truncate -s 1M "$work/a.raw"
disk a <<END
backing: { file: $work/a.raw }
END
serve
python3 "$top_srcdir/tests/control-garbage.py" "$work/control.sock" || fail "see above"
# The command line is told as well, although it is refused before it has asked.
$python - "$work/control.sock" "$sluice_program" status --config "$config" 2>"$work/errors" <<'END' || fail "when there are too many: $(cat "$work/errors")"
import select
import socket
import subprocess
import sys
def connected():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(sys.argv[1])
    return client
# They are taken in order, and clients from before may still be in their places: those that were refused try again.
idle, refused = [], 64
while refused:
    idle += [connected() for _ in range(refused)]
    assert b"too many clients" in connected().recv(4096)
    gone = select.select(idle, [], [], 0)[0]
    idle, refused = [client for client in idle if client not in gone], len(gone)
for _ in range(20):
    told = subprocess.run(sys.argv[2:], capture_output=True, text=True)
    assert told.returncode == 1 and "too many clients" in told.stderr, told
END
nbdinfo "$(uri a)" >/dev/null || fail "the disk is not served"
[ "$(sluice disk show a --json | jq .size_bytes)" = 1048576 ] || fail "the disk was changed"
# A peer that is not its owner is kept out by the socket's mode.
[ "$(stat -c %a "$work/control.sock")" = 600 ] || fail "the control socket's mode is $(stat -c %a "$work/control.sock")"
stop

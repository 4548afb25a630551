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
import socket
import subprocess
import sys
PLACES = 64
def answered():
    """A client that asked and has its answer: it is in a place, or was told that there is none."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(sys.argv[1])
    try:
        client.sendall(b'{"verb": "tasks", "disk": "nosuch"}\n')
    except BrokenPipeError:
        pass # refused before it asked
    return client, b"too many clients" not in client.recv(4096)
# Clients from before may still be in their places, and leave them while these come: one that is refused tells
# something only when all places are known to be taken.
idle, full = [], False
while not full:
    client, is_in = answered()
    idle += [client] if is_in else []
    assert len(idle) <= PLACES, "more clients than there are places"
    full = not is_in and len(idle) == PLACES
for _ in range(20):
    told = subprocess.run(sys.argv[2:], capture_output=True, text=True)
    assert told.returncode == 1 and "too many clients" in told.stderr, told
END
nbdinfo "$(uri a)" >/dev/null || fail "the disk is not served"
[ "$(sluice disk show a --json | jq .size_bytes)" = 1048576 ] || fail "the disk was changed"
# A peer that is not its owner is kept out by the socket's mode.
[ "$(stat -c %a "$work/control.sock")" = 600 ] || fail "the control socket's mode is $(stat -c %a "$work/control.sock")"
stop

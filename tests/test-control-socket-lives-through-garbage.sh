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
idle = []
for _ in range(64):
    idle.append(socket.socket(socket.AF_UNIX))
    idle[-1].connect(sys.argv[1])
for _ in range(20):
    told = subprocess.run(sys.argv[2:], capture_output=True, text=True)
    assert told.returncode == 1 and "too many clients" in told.stderr, told
END
nbdinfo "$(uri a)" >/dev/null || fail "the disk is not served"
[ "$(sluice disk show a --json | jq .size_bytes)" = 1048576 ] || fail "the disk was changed"
# A peer that is not its owner is kept out by the socket's mode.
[ "$(stat -c %a "$work/control.sock")" = 600 ] || fail "the control socket's mode is $(stat -c %a "$work/control.sock")"
stop

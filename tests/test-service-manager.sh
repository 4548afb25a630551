#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The service manager is told READY, WATCHDOG, RELOADING and READY again, and STOPPING; a gateway takes its
# listeners from socket activation; the units are valid, and as closed as can be.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires python3 nbdinfo

make_config
truncate -s 1M "$work/a.raw"
disk a <<END
backing: { file: $work/a.raw }
END

# --- what is told, with the sockets of socket activation
cat >"$work/activate.py" <<'END'
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
os.execv(sys.argv[2], sys.argv[2:])
END
touch "$work/told"
python3 "$top_srcdir/tests/notify-listener.py" "$work/notify" "$work/told" &
children="$children $!"
is_bound() { [ -S "$work/notify" ]; }
within 60 is_bound || fail "no listener"
NOTIFY_SOCKET=$work/notify python3 "$work/activate.py" "$work/given.sock" "$sluice_program" serve --config "$config" \
    >>"$work/log" 2>&1 &
gateway=$!
told() { grep -q "$1" "$work/told"; }
within 60 told '^READY=1$' || fail "READY was not told: $(cat "$work/told")"
within 60 told '^STATUS=1 disks, 0 failed$' || fail "STATUS was not told: $(cat "$work/told")"
within 60 told '^WATCHDOG=1$' || fail "WATCHDOG was not told: $(cat "$work/told")"
nbdinfo "nbd+unix:///a?socket=$work/given.sock" >/dev/null || fail "the given socket is not served"
[ ! -e "$sock" ] || fail "listen.nbd was opened beside the given socket"
# From here only what the reload tells.
: >"$work/told"
kill -HUP "$gateway"
within 60 told '^RELOADING=1$' || fail "RELOADING was not told: $(cat "$work/told")"
within 60 told '^MONOTONIC_USEC=[0-9][0-9]*$' || fail "MONOTONIC_USEC was not told"
within 60 told '^READY=1$' || fail "READY was not told after the reload: $(cat "$work/told")"
stop
within 60 told '^STOPPING=1$' || fail "STOPPING was not told: $(cat "$work/told")"

# --- what is given is checked: a number, and listening sockets
given() { # LISTEN_FDS SENTENCE
    ! LISTEN_FDS=$1 timeout 60 sh -c 'LISTEN_PID=$$ exec "$@"' sh "$sluice_program" serve --config "$config" \
        3</dev/null 2>"$work/errors" || fail "LISTEN_FDS=$1 was taken"
    grep -q "$2" "$work/errors" || fail "LISTEN_FDS=$1: $(cat "$work/errors")"
}
given 1 'descriptor 3 is no listening socket'
for count in 0 -1 65 1x 99999999999999999999 ''; do
    given "$count" "LISTEN_FDS=$count is no number from 1 to 64"
done

# --- the units
command -v systemd-analyze >/dev/null || exit 0
sed "s|@bindir@/sluice|$sluice_program|; s|^User=.*|User=root|; s|^Group=.*|Group=root|" \
    "$top_srcdir/packaging/systemd/sluice.service.in" >"$work/sluice.service"
cp "$top_srcdir/packaging/systemd/sluice-nbd.socket" "$work/"
systemd-analyze verify --man=no "$work/sluice.service" "$work/sluice-nbd.socket" >"$work/verify" 2>&1 ||
    fail "systemd-analyze verify: $(cat "$work/verify")"
! grep -E 'sluice[^ ]*:[0-9]+:|Unknown|Failed to parse' "$work/verify" || fail "systemd-analyze verify: $(cat "$work/verify")"
sed "s|@bindir@|/usr/bin|" "$top_srcdir/packaging/systemd/sluice.service.in" >"$work/sluice.service"
if systemd-analyze security --help 2>/dev/null | grep -q -- --offline; then
    systemd-analyze security --offline=yes --no-pager "$work/sluice.service" >"$work/security" 2>&1 ||
        fail "systemd-analyze security: $(cat "$work/security")"
    tail -n 1 "$work/security"
    exposure=$(sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p' "$work/security")
    awk -v x="$exposure" 'BEGIN { exit !(x != "" && x <= 3.0) }' || fail "exposure $exposure, at most 3.0"
fi

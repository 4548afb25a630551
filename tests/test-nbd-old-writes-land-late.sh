#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A server lives on when its connection is cut, and carries out what it had received later: after the
# client has come back, has sent the same write again and wants to write something newer there.  The
# newer one waits, what lies beside it does not.
. "${top_srcdir:?}/tests/backing-functions.sh"
need python3

start() {
    truncate -s 0 "$dir/disk"
    truncate -s 1M "$dir/disk"
    rm -f "$dir/disk.good" "$dir/disk.land" "$dir/disk.landed" "$dir/sock"
    server fake "$python" "$top_srcdir/tests/fake-nbd-server.py" "$dir/sock" "$dir/disk" late 1
    until_true 10 test -S "$dir/sock" || fail "no server"
    drive kind=nbd uri="nbd+unix:///?socket=$dir/sock" settle="$1"
    expect_open ok
    expect ok write 0 4096 1
    expect ok write 0 4096 2 # cut, and sent again
    expect "ok connected=1 * reconnects=1 *" status
    expect ok write 8192 4096 5
    expect ok read 0 4096 2
}
land() {
    touch "$dir/disk.land"
    until_true 10 test -e "$dir/disk.landed" || fail "the late write did not land"
}

# Without the wait, to see that the server does what it is there for.
start 0s
expect ok write 0 4096 3
land
expect "error: *" read 0 4096 3
quit
kill_server fake

began=$(date +%s%N)
start 3s
echo "write 0 4096 3" >&"$to"
read -r -t 0.5 -u "$from" answer && fail "a newer write did not wait: $answer"
land
read -r -t 60 -u "$from" answer
waited=$((($(date +%s%N) - began) / 1000000))
[ "$answer" = ok ] || fail "the newer write: $answer"
[ $waited -ge 3000 ] || fail "the newer write waited only $waited ms"
expect ok read 0 4096 3
expect ok write 0 4096 4
expect ok flush
quit
echo "an old write that landed late did no harm; the newer one had waited"

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Garbage instead of a reply, half a reply, a closed connection, "I am shutting down", a hang: none of
# it loses a request or reaches the guest, unless the time to wait is limited; then it gets EIO, and
# what was acknowledged is still written once the server is well.
. "${top_srcdir:?}/tests/backing-functions.sh"
need python3

start() {
    rm -f "$dir/disk" "$dir/disk.good" "$dir/sock"
    truncate -s 1M "$dir/disk"
    server fake "$python" "$top_srcdir/tests/fake-nbd-server.py" "$dir/sock" "$dir/disk" "$@"
    until_true 10 test -S "$dir/sock" || fail "no server"
}

# One that says nothing to begin with is no server, which is known after 10 s.
truncate -s 1M "$dir/mute"
server mute "$python" "$top_srcdir/tests/fake-nbd-server.py" "$dir/mute.sock" "$dir/mute" mute
until_true 10 test -S "$dir/mute.sock" || fail "no server"
"$driver" kind=nbd uri="nbd+unix:///?socket=$dir/mute.sock" >"$dir/mute.out" 2>&1 </dev/null &
mute=$!

# The request waits while the server misbehaves and is served when it stops to.
for fault in garbage truncated close shutdown; do
    start $fault 4
    drive kind=nbd uri="nbd+unix:///?socket=$dir/sock"
    expect_open ok
    for i in 1 2 3; do expect ok write $((i * 4096)) 4096 $i; done
    expect ok fua 16384 4096 4
    (sleep 0.3; touch "$dir/disk.good") &
    healer=$!
    expect ok write 20480 4096 5
    expect "ok connected=1 * sticky=0 connected to *" status
    [ "$(answer_number reconnects)" -ge 1 ] || fail "$fault: $answer"
    [ "$(answer_number replayed)" -ge 3 ] || fail "$fault: $answer"
    for i in 1 2 3 4 5; do expect ok read $((i * 4096)) 4096 $i; done
    expect ok flush
    wait $healer
    quit
    kill_server fake
    echo "$fault: well"
done

# A server that hangs is left after the time to wait; nothing is forgotten.
start hang 1
drive kind=nbd uri="nbd+unix:///?socket=$dir/sock" reconnect=200ms
expect_open ok
expect ok write 0 4096 7
before=$(date +%s%N)
expect "error: Input/output error" read 0 4096 7
elapsed=$((($(date +%s%N) - before) / 1000000))
[ $elapsed -ge 150 ] && [ $elapsed -le 2000 ] || fail "the deadline came after $elapsed ms"
expect "error: Input/output error" flush
touch "$dir/disk.good"
until_true 10 flushed || fail "it does not come back: $answer"
expect ok read 0 4096 7
quit
kill_server fake

# A read answered without its data is an error, not whatever lay in the buffer.
start short 0
drive kind=nbd uri="nbd+unix:///?socket=$dir/sock"
expect_open ok
expect "error: Input/output error" read 0 4096 0
quit
kill_server fake

# An error for a write is the guest's; one for a flush is sticky, until reopened.
start eio 1
drive kind=nbd uri="nbd+unix:///?socket=$dir/sock"
expect_open ok
expect ok write 0 4096 8
expect "error: Input/output error" write 4096 4096 8
expect "error: Input/output error" flush
touch "$dir/disk.good"
expect ok write 4096 4096 9
expect "error: Input/output error" flush
expect "* sticky=5 *" status
expect ok reopen
expect "* sticky=0 *" status
expect ok flush
quit

# Comes back smaller: refused, loudly.
drive kind=nbd uri="nbd+unix:///?socket=$dir/sock"
expect_open ok
kill_server fake
truncate -s 512K "$dir/disk"
server fake "$python" "$top_srcdir/tests/fake-nbd-server.py" "$dir/sock" "$dir/disk" close 1000000
expect "error: Input/output error" read 0 4096 0
expect "ok connected=0 * sticky=5 * is not used any more: it came back with 524288 bytes instead of 1048576" status
grep -q "every request fails from now on" "$dir/driver.log" || fail "nothing was logged"
quit

wait $mute && fail "a mute server was opened"
grep -q "^error: .*: no answer within 10 s" "$dir/mute.out" || fail "$(cat "$dir/mute.out")"

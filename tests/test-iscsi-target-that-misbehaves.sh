#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What a target can answer instead of the data: garbage, a closed connection, silence, BUSY, sense codes.
# What passes is waited for, what may have cost unflushed writes counts as a loss, the rest is an error.
. "${top_srcdir:?}/tests/backing-functions.sh"
need python3
port=$(free_port)
uri=iscsi://127.0.0.1:$port/iqn.fake/0

is_listening() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# start FAULT COUNT ABILITY...: and opens it
start() {
    rm -f "$dir/disk" "$dir/disk.good"
    truncate -s 1M "$dir/disk"
    server fake "$python" "$top_srcdir/tests/fake-iscsi-target.py" "$port" "$dir/disk" "$@"
    until_true 10 is_listening || fail "no target"
    drive kind=iscsi uri="$uri" ${reconnect:+reconnect=$reconnect}
    expect_open ok
}

stop() {
    quit
    kill_server fake
    echo "${FUNCNAME[1]}: $1: well"
}

# The request waits while the target misbehaves and is served when it stops to.
passes() {
    start "$1" 4 ws lbpws
    for i in 1 2 3 4; do expect ok write $((i * 4096)) 4096 "$i"; done
    (sleep 0.3; touch "$dir/disk.good") &
    healer=$!
    expect ok write 20480 4096 5
    expect "ok connected=1 * sticky=0 connected to $uri" status
    if [ "$2" = lost ]; then
        [ "$(answer_number reconnects)" -ge 1 ] || fail "$1: $answer"
        [ "$(answer_number replayed)" -ge 4 ] || fail "$1: $answer"
    else
        [ "$(answer_number reconnects)" -eq 0 ] || fail "$1: $answer"
    fi
    for i in 1 2 3 4 5; do expect ok read $((i * 4096)) 4096 "$i"; done
    expect ok flush
    wait $healer
    stop "$1"
}
passes garbage lost
passes close lost
passes busy kept
passes full kept
passes 2/04/01 kept
passes 2/04/0a kept
passes b/00/00 kept
passes 6/3f/0e+once kept
passes 6/29/00+once lost
passes 6/29/07+once lost

fails() {
    start "$1" 1
    expect ok write 0 4096 1
    expect "error: $2" read 0 4096 1
    touch "$dir/disk.good"
    expect ok read 0 4096 1
    expect "* reconnects=0 *" status
    stop "$1"
}
fails 3/11/00 "Input/output error"
fails 5/21/00 "Input/output error"
fails 7/27/07 "No space left on device"
fails 7/27/00 "Read-only file system"
fails 2/3a/00 "Input/output error"
fails short "Input/output error"

# A capacity that changed is noticed, and told when asked.
start 6/2a/09+once 1
expect ok write 0 4096 1
expect ok read 0 4096 1
expect ok refresh
expect "ok size=2097152 *" info
grep -q "grew to 2097152 bytes" "$dir/driver.log" || fail "nothing was logged"
stop capacity

# Silence.
reconnect=200ms
start hang 1
unset reconnect
expect ok write 0 4096 1
expect "error: Input/output error" read 0 4096 1
touch "$dir/disk.good"
until_true 10 flushed || fail "it does not come back: $answer"
expect ok read 0 4096 1
stop hang

# Zeros by whatever way there is, down to plain writes; trimmed edges too.
zeros() {
    start none 0 "$@"
    expect ok write 0 131072 1
    expect ok "${way:-trim}" 1536 100864
    expect ok read 1536 100864 0
    expect ok read 0 1536 1
    expect ok read 102400 28672 1
    expect ok flush
    stop "$*"
}
zeros ws lbpws
zeros ws lbpws unmap
zeros ws unmap
zeros unmap
zeros lies
way=zero zeros lies
way=zero zeros ws

# Without SYNCHRONIZE CACHE what is written is as stable as it gets.
start none 0 nosync
expect "* flush=1 fua=1 trim=0 zero=0 *" info
expect ok write 0 4096 1
expect ok flush
stop nosync

# Sent elsewhere by the target.
start redirect 0
expect ok write 0 4096 1
expect ok read 0 4096 1
stop redirect

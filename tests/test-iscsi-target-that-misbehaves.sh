#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What a target can answer instead of the data: garbage, a closed connection, silence, BUSY, sense codes.
# What passes is waited for, what may have cost unflushed writes counts as a loss, the rest is an error.
. "${top_srcdir:?}/tests/backing-functions.sh"
need python3
fake_iscsi
# The request waits while the target misbehaves and is served when it stops to.
passes() {
    start_fake "$1" 4 ws lbpws
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
    stop_fake "$1"
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
    start_fake "$1" 1
    expect ok write 0 4096 1
    expect "error: $2" read 0 4096 1
    touch "$dir/disk.good"
    expect ok read 0 4096 1
    expect "* reconnects=0 *" status
    stop_fake "$1"
}
fails 3/11/00 "Input/output error"
fails 5/21/00 "Input/output error"
fails 7/27/07 "No space left on device"
fails 7/27/00 "Read-only file system"
fails 2/3a/00 "Input/output error"
fails short "Input/output error"

# A capacity that changed is noticed, and told when asked.
start_fake 6/2a/09+once 1
expect ok write 0 4096 1
expect ok read 0 4096 1
expect ok refresh
expect "ok size=2097152 *" info
grep -q "grew to 2097152 bytes" "$dir/driver.log" || fail "nothing was logged"
stop_fake capacity

# Silence.
reconnect=200ms
start_fake hang 1
unset reconnect
expect ok write 0 4096 1
expect "error: Input/output error" read 0 4096 1
touch "$dir/disk.good"
until_true 10 flushed || fail "it does not come back: $answer"
expect ok read 0 4096 1
stop_fake hang

# Without SYNCHRONIZE CACHE what is written is as stable as it gets.
start_fake none 0 nosync
expect "* flush=1 fua=1 trim=0 zero=0 *" info
expect ok write 0 4096 1
expect ok flush
stop_fake nosync

# Sent elsewhere by the target.
start_fake redirect 0
expect ok write 0 4096 1
expect ok read 0 4096 1
stop_fake redirect

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# qemu-nbd on a Unix socket and nbdkit on TCP, killed and restarted under a load, lose nothing; a size
# that grew is seen by a refresh; holes are told; a server that is not there is an error.
. "${top_srcdir:?}/tests/backing-functions.sh"
need nbdkit qemu-nbd python3

truncate -s 16M "$dir/disk"
start_qemu() {
    rm -f "$dir/sock"
    server qemu qemu-nbd -t -f raw --discard=unmap -k "$dir/sock" "$dir/disk"
}
port=$(free_port)
start_nbdkit() {
    server nbdkit nbdkit -f -i 127.0.0.1 -p "$port" file "$dir/disk"
}

drive kind=nbd uri="nbd+unix:///?socket=$dir/sock"
expect_open "error: driven: nbd+unix:///?socket=$dir/sock: *connect: No such file or directory"

# The last one that was started; now and then an nbdkit ends as it begins, and says nothing.
is_listening_qemu() { test -S "$dir/sock"; }
is_listening_nbdkit() { is_listening "$port"; }
serves() {
    if has_ended "$(cat "$dir/$1.pid")"; then
        echo "$1 has ended by itself: $(cat "$dir/$1.log")"
        "start_$1"
    fi
    "is_listening_$1"
}

under_load() {
    keep_killing "$1" "start_$1" 200 300 &
    killer=$!
    ask load 3 8 4096 "$dir/disk"
    stop_killing $killer
    until_true 10 serves "$1" || fail "no $1"
    case $answer in ok*) ;; *) tail "$dir"/driver.log; fail "$1: $answer" ;; esac
    echo "$1: $answer"
    [ "$(answer_number reconnects)" -ge 1 ] || fail "it was hardly ever killed"
    expect ok verify
}

start_qemu
until_true 10 test -S "$dir/sock" || fail "no server"
drive kind=nbd uri="nbd+unix:///?socket=$dir/sock"
expect_open ok
expect "ok size=16777216 block=1 * ro=0 flush=1 fua=1 trim=1 zero=1 * extents=1 *" info
expect "ok nbd+unix:///?socket=$dir/sock" identity
expect ok write 1048576 1048576 3
expect ok flush
expect "ok 1048576:3 1048576:0 1048576:3*" extents 0 3145728
expect ok trim 1048576 524288
expect ok read 1048576 524288 0
expect ok read 1572864 524288 3
expect "ok 1572864:3 524288:0" extents 0 2097152
expect ok hole 1572864 262144
expect ok zero 1835008 262144
expect ok read 1048576 1048576 0
under_load qemu
truncate -s 20M "$dir/disk"
kill_server qemu
start_qemu
until_true 10 test -S "$dir/sock" || fail "no server"
until_true 10 refreshed || fail "refresh: $answer"
expect "ok size=20971520 *" info
expect ok write 16777216 4194304 9
expect ok read 16777216 4194304 9
quit
kill_server qemu

truncate -s 0 "$dir/disk"
truncate -s 16M "$dir/disk"
start_nbdkit
connected() { drive kind=nbd uri="nbd://127.0.0.1:$port"; [ "$answer" = ok ]; }
until_true 10 connected || fail "$answer"
under_load nbdkit
expect ok flush
quit

# A read-only server is one.
kill_server nbdkit
server nbdkit nbdkit -f -r -U "$dir/ro" file "$dir/disk"
until_true 10 test -S "$dir/ro" || fail "no server"
drive kind=nbd uri="nbd+unix:///?socket=$dir/ro"
expect_open ok
expect "ok size=16777216 * ro=1 *" info
quit

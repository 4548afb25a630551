#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A server that loses unflushed writes when it is killed is killed again and again under a load: no
# request fails, every read returns what was written, and after each flush (and each FUA write) that
# succeeded the data is in the server's file.
. "${top_srcdir:?}/tests/backing-functions.sh"
need nbdkit python3

start() {
    rm -f "$dir/sock"
    server forgetful nbdkit -f -U "$dir/sock" "$plugin" file="$dir/disk" fua="$fua"
}

run() {
    fua=$1
    rm -f "$dir/disk"
    truncate -s 8M "$dir/disk"
    start
    until_true 10 test -S "$dir/sock" || fail "no server"
    drive kind=nbd uri="nbd+unix:///?socket=$dir/sock" keep="$2"
    expect_open ok
    keep_killing forgetful start 50 300 &
    killer=$!
    ask load 4 8 2048 "$dir/disk"
    stop_killing $killer
    case $answer in ok*) ;; *) tail "$dir"/driver.log; fail "fua=$fua keep=$2: $answer" ;; esac
    echo "fua=$fua keep=$2: $answer"
    [ "$(answer_number reconnects)" -ge 1 ] || fail "it was never killed"
    [ "$(answer_number replayed)" -ge 1 ] || fail "nothing was written again"
    expect ok flush
    expect ok verify
    quit
    kill_server forgetful
}

run native 64MiB
run none 64MiB
run native 256KiB

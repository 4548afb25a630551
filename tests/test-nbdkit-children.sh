#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit plugins as children: they inherit nothing, die with us even when we are killed, are started
# anew when they die; but one that held the contents itself is refused then, never served as zeros.
. "${top_srcdir:?}/tests/backing-functions.sh"
need nbdkit python3

child() { cat "/proc/$driver_pid/task/"*/children 2>/dev/null | tr -d ' '; }
has_child() { [ -n "$(child)" ]; }
kill_child() { kill -9 "$(child)"; }

# --- the memory plugin -----------------------------------------------------------------------------
self=$(realpath "$0")
exec {stray}<"$self" # open in the driver as well, and not close-on-exec
drive kind=nbdkit plugin=memory arg=size=8M
expect_open ok
expect "ok size=8388608 * ro=0 flush=1 fua=1 trim=1 zero=1 *" info
expect "ok connected=1 * connected to nbdkit plugin memory" status
pid=$(child)
ls -l "/proc/$driver_pid/fd" | grep -q "$self" || fail "the driver should have $self open"
ls -l "/proc/$pid/fd" >"$dir/fds"
grep -q "$self" "$dir/fds" && fail "the child has inherited $self"
[ "$(grep -c socket: "$dir/fds")" -le 3 ] || fail "the child has sockets of ours: $(cat "$dir/fds")"
grep -q '^SigBlk:.*0000000000000000$' "/proc/$pid/status" || fail "the child blocks signals"
expect ok write 0 4096 1
expect ok read 0 4096 1
expect ok zero 0 4096
ask load 1 8 2048
case $answer in ok*) ;; *) fail "$answer" ;; esac
expect ok verify
expect "error: *holds its contents itself*" reopen
expect ok refresh
kill_child
expect "error: Input/output error" read 0 4096 1
expect "error: Input/output error" write 0 4096 1
expect "error: Input/output error" flush
expect "ok connected=0 * is not used any more: its contents are gone: the process ended*" status
expect ok reopen
expect ok read 0 4096 0
expect ok write 0 4096 1
quit
exec {stray}<&-
until_true 10 has_ended "$pid" || fail "the child stays"

# --- by path, with a filter, read-only --------------------------------------------------------------
memory=$(nbdkit memory --dump-plugin | sed -n 's/^path=//p')
drive kind=nbdkit plugin="$memory" arg=size=1M filter=log arg=logfile="$dir/filter.log"
expect_open ok
expect ok read 0 4096 0
kill_child
expect "error: Input/output error" read 0 4096 0
quit
grep -q Read "$dir/filter.log" || fail "the filter did not run"
drive kind=nbdkit plugin=memory arg=1M ro=1
expect_open ok
expect "ok size=1048576 * ro=1 *" info
quit

# --- the file plugin, its child killed under a load ---------------------------------------------------
truncate -s 8M "$dir/disk"
drive kind=nbdkit plugin=file arg=file="$dir/disk"
expect_open ok
expect "ok nbdkit plugin file: file=$dir/disk" identity
(
    while [ ! -e "$dir/enough" ]; do
        sleep "0.$((100 + RANDOM % 200))"
        kill_child 2>/dev/null
    done
) &
killer=$!
ask load 3 8 2048 "$dir/disk"
touch "$dir/enough"
wait $killer
rm "$dir/enough"
case $answer in ok*) ;; *) tail "$dir"/driver.log; fail "$answer" ;; esac
echo "file: $answer"
[ "$(answer_number reconnects)" -ge 2 ] || fail "it was hardly ever killed"
expect ok verify
truncate -s 12M "$dir/disk"
expect ok refresh
expect "ok size=12582912 *" info
quit

# --- what forgets, as a child --------------------------------------------------------------------------
rm "$dir/disk"
truncate -s 8M "$dir/disk"
drive kind=nbdkit plugin="$plugin" arg=file="$dir/disk"
expect_open ok
expect ok write 0 65536 1
kill_child
expect ok read 0 65536 1
expect "* replayed=1 *" status
expect ok flush
quit

# --- those that cannot ---------------------------------------------------------------------------------
drive kind=nbdkit plugin=no-such-plugin
expect_open "error: driven: nbdkit plugin no-such-plugin: the process ended*"
grep -q "no-such-plugin" "$dir/driver.log" || fail "the child's words are lost"
drive kind=nbdkit plugin=--version
expect_open 'error: driven: "--version" is no name of an nbdkit plugin'
drive kind=nbdkit plugin=memory arg=--run
expect_open 'error: driven: "--run" is no KEY=VALUE for nbdkit plugin memory'

# --- the end -------------------------------------------------------------------------------------------
drive kind=nbdkit plugin=memory arg=1M
expect_open ok
pid=$(child)
kill -9 "$driver_pid"
until_true 10 has_ended "$pid" || fail "the child outlives a killed gateway"
wait "$driver_pid" 2>/dev/null
drive kind=nbdkit plugin=memory arg=1M
expect_open ok
pid=$(child)
expect ok stop
until_true 1 has_ended "$pid" || fail "the child outlives a stop"
quit

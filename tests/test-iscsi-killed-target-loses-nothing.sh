#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A LUN of a real target: what it can do, its name, holes; a load while the target is killed and
# restarted loses nothing; a LUN reset by another initiator counts as a loss; a LUN that grew is seen;
# another LUN in its place is refused.
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"

truncate -s 32M "$dir/lun"
drive kind=iscsi uri="iscsi://$portal/$iqn/1"
expect_open "error: driven: iscsi://$portal/$iqn/1: *Connection refused*"
start_tgtd
open_lun() { drive kind=iscsi uri="iscsi://$portal/$iqn/1" "$@"; }
open_lun
expect_open ok
expect "ok size=33554432 block=512 * ro=0 flush=1 fua=1 trim=1 zero=1 * extents=1 *" info
expect "ok naa.6*" identity
expect "ok connected=1 * connected to iscsi://$portal/$iqn/1" status
expect ok write 1048576 5242880 3
expect ok fua 0 512 4
expect ok flush
expect "ok 1048576:0" extents 1048576 1048576
expect "ok 1048576:3" extents 16777216 1048576
expect ok trim 1048576 2097152
expect ok read 1048576 2097152 0
expect ok read 3145728 3145728 3
expect "ok 2097152:3 *" extents 1048576 4194304
expect ok zero 3145728 1048576
expect ok hole 4194304 1048576
expect ok read 3145728 2097152 0
expect ok zero 0 512
expect ok flush

# Another initiator resets the LUN: its cache may be gone, so what was not flushed is written again.
expect ok write 8388608 65536 5
expect ok lun-reset "iscsi://$portal/$iqn/1"
expect ok read 8388608 65536 5
expect "ok connected=1 generation=1 reconnects=1 replayed=1 *" status
expect ok zero 0 33554432

keep_killing tgtd start_tgtd 600 400 &
killer=$!
ask load 5 8 8192 "$dir/lun"
stop_killing $killer
case $answer in ok*) ;; *) tail "$dir"/driver.log; fail "$answer" ;; esac
echo "$answer"
[ "$(answer_number reconnects)" -ge 2 ] || fail "it was hardly ever killed"
expect ok verify
expect ok flush

truncate -s 40M "$dir/lun"
kill_server tgtd
start_tgtd
until_true 10 refreshed || fail "$answer"
expect "ok size=41943040 *" info
expect ok write 33554432 4096 6
expect ok read 33554432 4096 6

kill_server tgtd
tid=2
start_tgtd
expect "error: Input/output error" read 33554432 4096 6
expect "ok connected=0 * is not used any more: another disk is in its place: *" status
quit

drive kind=iscsi uri="iscsi://$portal/$iqn/7"
expect_open "error: *"
drive kind=iscsi uri="iscsi://$portal/iqn.nobody/1"
expect_open "error: *Failed to log in*"
drive kind=iscsi uri="iscsi:nonsense"
expect_open "error: driven: this is no iSCSI URL *"

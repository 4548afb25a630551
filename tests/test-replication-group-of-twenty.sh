#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A group of twenty disks; its primary is killed right after writes to all of them.  One forced failover makes the
# other gateway the primary of all, and each has what was acknowledged.  Prints how long it took until the first and
# until the last of them answered.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
disks=$(seq -w 1 20)
for number in $disks; do
    replicated_disk "d$number" "5f000000-0000-4000-8000-0000000000$number" 8MiB \
        "journal: { size: 256MiB }, peer_timeout: 300ms, peer_wait: 1s,"
    for name in gw-a gw-b; do
        echo "group: erp" >>"$work/$name/etc/disks.d/d$number.yaml"
    done
done
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
is_whole() {
    [ "$(told "$1" d01 group_disks 2>/dev/null)" = 20 ]
}
within 20 is_whole gw-a && within 20 is_whole gw-b || fail "the group is not formed"
on gw-a replication promote d07 --force >/dev/null || fail "the group is not promoted"
is_following() {
    is_told gw-a d01 link streaming
}
within 30 is_following || fail "the copy does not end"
head -c 4194304 /dev/urandom >"$work/data"
for number in $disks; do
    nbdcopy "$work/data" "$(address_at gw-a "d$number")" || fail "no write to d$number"
done
pair_kill gw-a
journal=$(told gw-b d01 journal_bytes)
began=$(date +%s%N)
ms_since_then() {
    echo $((($(date +%s%N) - began) / 1000000))
}
on gw-b failover erp --to gw-b --force --yes >/dev/null 2>"$work/said" || fail "$(cat "$work/said")"
promoted=$(ms_since_then) first=
for number in $disks; do
    qemu-io -f raw -c "write 4M 4k" "$(address_at gw-b "d$number")" >/dev/null || fail "no write to d$number at gw-b"
    : "${first:=$(ms_since_then)}"
done
last=$(ms_since_then)
for number in $disks; do
    nbdcopy "$(address_at gw-b "d$number")" - | head -c 4194304 | cmp - "$work/data" || fail "d$number has other contents"
done
pair_kill gw-b TERM || fail "gw-b did not stop cleanly"
echo "20 disks, $journal bytes of journal: promoted in $promoted ms, the first write after $first ms, one to each after $last ms"

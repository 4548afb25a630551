#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Three groups of three disks each between two gateways, sync with hold, sync with degrade, async; each group under one
# writer that alternates between its disks.  RUNS (10) faults by SEED (1) as in test-replication-survives-kills.sh; what
# is promoted is one instant of the group: no write is there on one of its disks when one that was acknowledged before
# it was sent is missing on another.  In the end both images of each disk are the same.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
. "$top_srcdir/tests/replication-fault-functions.sh"
requires jq
disks_hold=held disks_degrade=alone disks_async=async
blocks=1536 # 512 on each disk; the sizes are not those of whole extents
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
common="peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"

# replicated_group NAME NUMBER OPTIONS: a verb that names the first of its disks is about all of them.
replicated_group() {
    replicated_disk "$1" "2f000000-0000-4000-8000-00000000${2}002" 2100KiB "$3"
    replicated_disk "$1-2" "2f000000-0000-4000-8000-00000000${2}001" 3MiB "$3"
    replicated_disk "$1-3" "2f000000-0000-4000-8000-00000000${2}003" 2052KiB "$3"
    for disk in "$1" "$1-2" "$1-3"; do
        for name in gw-a gw-b; do
            echo "group: $1" >>"$work/$name/etc/disks.d/$disk.yaml"
        done
    done
}
# each COMMAND DISK: of all disks of its group, with commas
each() {
    echo "$($1 "$2" "$3"),$($1 "$2" "$3-2"),$($1 "$2" "$3-3")"
}
one_address() {
    echo "nbd+unix:///$2?socket=$work/$1/nbd.sock"
}
address_at() {
    each one_address "$1" "$2"
}
look() {
    each image "$1" "$2"
}
are_equal() {
    for disk_name in "$1" "$1-2" "$1-3"; do
        cmp -s "$(image gw-a "$disk_name")" "$(image gw-b "$disk_name")" || return 1
    done
}
replicated_group held 1 "on_peer_loss: hold, $common"
replicated_group alone 2 "on_peer_loss: degrade, $common"
replicated_group async 3 "mode: async, $common"
make_states
run_faults

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Replication above a cache on both sides, under the faults and the stamping writers of
# test-replication-survives-kills.sh: GROUP names four disks, MODE-ACK-LOSS-CACHE-CACHE (the caches of gw-a and gw-b:
# write-back or write-through).  With POWER=cut whoever is killed also loses, of every file, any sectors that it had not
# made durable: the image, the journal, the notes of what differs, the SSD of the cache.  Images are compared by what
# a client reads, and in the end as the backing has them.  RUNS (4) faults by SEED (1); `make soak` does all groups.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
: "${RUNS:=4}"
. "$top_srcdir/tests/replication-fault-functions.sh"
requires jq nbdcopy nbdinfo
: "${GROUP:=sync-journaled-hold-back-back sync-applied-degrade-back-through sync-received-hold-through-back async-none-none-back-back}"
power=${POWER:-}
blocks=2048

# write_policy DISK: on both gateways, as its name says.
write_policy() {
    IFS=- read -r mode ack loss cache_a cache_b <<END
$1
END
    options="mode: $mode"
    [ "$mode" = async ] || options="$options, ack: $ack, on_peer_loss: $loss"
    number=$((number + 1))
    for name in gw-a gw-b; do
        [ $name = gw-a ] && cache=$cache_a || cache=$cache_b
        mkdir -p "$work/$name/ssd"
        cat >"$work/$name/etc/disks.d/$1.yaml" <<END
size: 8MiB
uuid: 1f000000-0000-4000-8000-00000000000$number
backing: { file: $work/$name/$1.raw }
filters:
  - replication: { peer: $(other_half $name), $options, peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB } }
  - cache: { mode: write-$cache, ram: 1MiB, ssd: { path: $work/$name/ssd/$1, size: 6MiB }, destage: { after: 200ms } }
END
    done
}

disks_hold='' disks_degrade='' disks_async='' disks_received='' number=0
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
for disk in $GROUP; do
    write_policy "$disk"
    case $disk in
    async-*) disks_async="$disks_async $disk" ;;
    *-hold-*) disks_hold="$disks_hold $disk" ;;
    *) disks_degrade="$disks_degrade $disk" ;;
    esac
    case $disk in sync-received-*) disks_received="$disks_received $disk" ;; esac
done
make_states

is_open() {
    nbdinfo --size "$(address_at "$1" "$2")" >/dev/null 2>&1
}

look() {
    within 10 is_open "$1" "$2" && address_at "$1" "$2"
}

take_home() {
    for disk in $disks; do
        nbdcopy "$(look "$1" "$disk")" "$work/$disk.$2" || fail_of "$disk" "$disk cannot be read at $1"
    done
}

# What a client reads here is what it reads there.
are_all_equal() {
    for disk in $disks; do
        within 20 is_streaming "$disk" || fail_of "$disk" "$disk is not healed after $fault"
    done
    take_home "$primary" here
    hand_all_over
    take_home "$primary" there
    for disk in $disks; do
        cmp "$work/$disk.here" "$work/$disk.there" || fail_of "$disk" "the images of $disk differ after $fault"
    done
}

# The backings of both sides, the caches emptied into them.
are_all_equal_below() {
    for disk in $disks; do
        for name in gw-a gw-b; do
            on $name cache flush "$disk" >/dev/null || fail_of "$disk" "the cache of $disk at $name cannot be emptied"
            cmp "$(image $name "$disk")" "$work/$disk.there" || fail_of "$disk" "the backing of $disk at $name differs"
        done
    done
}

run_faults are_all_equal_below

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A forced promotion serves at once, although what the journal has is not applied yet: below the follower each write takes
# long.  With few and with many bytes unapplied, the first read and the first write there end within a second.  Guests'
# reads, writes, zeros, trims and flushes over what is not applied; kill -9 of the promoted side amid that, twice; a
# snapshot that waits; what is on disk then, read by a reader of its own; a
# journal that rots; a disk whose backing fails; the one that died follows again: all bytes are what they have to be.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq nbdcopy qemu-io qemu-img
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"

# Each has another one below at gw-b, where what is promoted has to be applied.
slow_disk() { # NAME NUMBER FILTER
    replicated_disk "$1" "8d000000-0000-4000-8000-00000000000$2" 64MiB \
        "journal: { size: 128MiB }, peer_timeout: 300ms, peer_wait: 200ms,"
    sed -i "s/^filters: \[\(.*\)\]/filters: [\1, $3]/" "$work/gw-b/etc/disks.d/$1.yaml"
}
slow="delay: { op: write, time: 50ms, declared: true, at: backing }"
slow_disk few 1 "delay: { op: write, time: 100ms, declared: true, at: backing }"
slow_disk many 2 "$slow"
slow_disk broken 3 "fail: { op: write, error: 5, at: backing }"
slow_disk files 4 "delay: { op: write, time: 800ms, declared: true, at: backing }"
disks="few many broken files"

is_streaming() { is_told gw-a "$1" link streaming; }
unapplied() { told gw-b "$1" unapplied_bytes; }
all_applied() { [ "$(unapplied "$1")" = 0 ]; }
# The same is done to a file, which says what the disk has to hold.
both() { # GATEWAY DISK COMMAND...
    at=$1 name=$2
    shift 2
    qemu-io -f raw "$work/$name.model" "$@" >/dev/null || fail "qemu-io at the model of $name"
    qemu-io -f raw "$(address_at "$at" "$name")" "$@" >/dev/null || fail "qemu-io at $name of $at"
}
is_as_it_must_be() { # GATEWAY DISK
    nbdcopy "$(address_at "$1" "$2")" "$work/read" || fail "$2 of $1 cannot be read"
    cmp "$work/read" "$work/$2.model" || fail "$2 of $1 has other contents $3"
}
ms_since() { echo $((($(date +%s%N) - $1) / 1000000)); }

for disk in $disks; do truncate -s 64M "$work/$disk.model"; done
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
for disk in $disks; do
    on gw-a replication promote $disk --force >/dev/null || fail "$disk is not promoted"
done
for disk in $disks; do
    within 20 is_streaming $disk || fail "the copy of $disk does not end"
done

fill() { # DISK MIB BYTES-OF-A-WRITE
    head -c $(($2 << 20)) /dev/urandom >"$work/data"
    dd if="$work/data" of="$work/$1.model" bs=1M conv=notrunc status=none
    nbdcopy --request-size="$3" "$work/data" "$(address_at gw-a "$1")" || fail "no write to $1"
    both gw-a "$1" -c "write -z 1M 64k" -c "discard 1536k 128k" -c "write -P 17 $(($2 - 1))M 300k" -c flush
}
fill broken 2 65536
fill many 32 8192
set --
for mib in $(seq 0 47); do
    set -- "$@" -c "write -P $((mib + 1)) $((mib * 1024 + 8))k 8k" -c "write -P $((mib + 61)) $((mib * 1024 + 12))k 8k" \
        -c "write -P 9 $((mib * 1024 + 1000))k 30k" -c "write -P 10 $((mib * 1024 + 500))k 4k" \
        -c "write -P 11 $((mib * 1024 + 300))k 4k" -c "write -P 12 $((mib * 1024 + 700))k 12k" -c "discard $((mib * 1024))k 4k"
done
both gw-a files "$@" -c flush
# Few bytes, but many writes, all over the disk.
set --
for mib in $(seq 0 23); do
    for part in $(seq 0 23); do
        set -- "$@" -c "write -P $((mib + part + 1)) $((mib * 1024 + part * 40))k 4k"
    done
done
both gw-a few "$@" -c "write -z 1M 64k" -c "discard 2100k 128k" -c flush
pair_kill gw-a

for disk in few many; do
    began=$(date +%s%N)
    on gw-b failover $disk --to gw-b --force --yes >/dev/null 2>"$work/said" || fail "$disk: $(cat "$work/said")"
    promoted=$(ms_since "$began") left=$(unapplied $disk)
    [ "$left" -gt 100000 ] || fail "$disk: nothing is left to be applied ($left): this test tests nothing"
    qemu-io -f raw "$(address_at gw-b $disk)" -c "read 80k 4k" >/dev/null || fail "no read of $disk"
    read=$(ms_since "$began")
    both gw-b $disk -c "write -P 33 122k 4k"
    written=$(ms_since "$began")
    echo "$disk: $left bytes were not applied: promoted in $promoted ms, the first read after $read, the first write after $written"
    [ "$written" -lt "${FIRST_MS:-1000}" ] || fail "$disk: the first read took $read ms, the first write $written ms"
done

# What lies below fails: requests for that fail, others do not, status says so.  Repaired, below, it is applied after all.
on gw-b failover broken --to gw-b --force --yes >/dev/null 2>"$work/said" || fail "broken: $(cat "$work/said")"
is_failing() { on gw-b status --json | grep -q 'cannot be written here'; }
within 10 is_failing || fail "nothing is said of what fails"
qemu-io -f raw "$(address_at gw-b broken)" -c "read -P 0 40M 64k" >/dev/null || fail "what has nothing to do with it fails"
! qemu-io -f raw "$(address_at gw-b broken)" -c "read 0 64k" >/dev/null 2>&1 || fail "what could not be written is read"

on gw-b failover files --to gw-b --force --yes >/dev/null 2>"$work/said" || fail "files: $(cat "$work/said")"
both gw-b files -c "write -P 88 48136k 4k" -c flush &

# Over what is not applied; some of it whole records, some parts of one, some across two extents.
both gw-b many -c "write -P 40 29M 4k" -c "write -z 28M 1M" -c "discard 27000k 200k" -c "write -P 41 1020k 8k" \
    -c "write -P 42 25M 64k" -c "write -z 24577k 513" -c flush
[ "$(unapplied many)" -gt 1000000 ] || fail "too little is left to be applied to test more"
on gw-b replication status many | grep -q 'serves; [0-9]* bytes of the journal are not applied yet' || fail "status says nothing of it"
[ "$(told gw-b many serving)" = 1 ] || fail "many does not serve"
wait $! || fail "no write to files"
pair_kill gw-b
cp "$(image gw-b files)" "$work/redone"
$python "$top_srcdir/tests/replication-files.py" "$work/gw-b/state/disks/files/filters/replication" "$work/redone" >"$work/read" ||
    fail "the files of gw-b cannot be read: $(cat "$work/read")"
grep -q 'settled extents=\(.*,\)\?47' "$work/read" || fail "extent 47 is not settled: $(cat "$work/read")"
grep -q 'super .*backlog=[1-9]' "$work/read" || fail "no backlog: $(cat "$work/read")"
cmp "$work/redone" "$work/files.model" || fail "the journal and what is settled do not make the disk"

# Of the same disk the last record rots: nothing older is served for what was.
end=$(sed -n 's/^journal end=\([0-9]*\) .*/\1/p' "$work/read")
printf X | dd of="$work/gw-b/state/disks/files/filters/replication/journal" bs=1 seek=$((end - 20)) conv=notrunc status=none
sed -i 's/, delay: {[^}]*}//' "$work/gw-b/etc/disks.d/files.yaml"
pair_serve gw-b
within 10 is_told gw-b files role secondary || fail "files is served although its journal is damaged"
on gw-b status --json | grep -q 'journal is damaged' || fail "nothing is said of the damage"
is_alone() { is_told gw-b "$1" serving 1 && is_told gw-b "$1" alone 1; }
within 20 is_alone many || fail "many does not serve again: $(on gw-b replication status many)"
[ "$(unapplied many)" -gt 1000000 ] || fail "nothing is left to be applied after the kill"
both gw-b many -c "write -P 50 29M 8k" -c "write -P 51 20M 4k" -c "write -z 15M 300k" -c flush
pair_kill gw-b
sed -i 's/, \(delay\|fail\): {[^}]*}//' "$work/gw-b/etc/disks.d/many.yaml" "$work/gw-b/etc/disks.d/few.yaml" "$work/gw-b/etc/disks.d/broken.yaml"
pair_serve gw-b
within 20 is_alone many || fail "many does not serve again"
left=$(unapplied many)
is_as_it_must_be gw-b many "with $left bytes unapplied"
within 20 is_alone few && is_as_it_must_be gw-b few "after the kills"
within 20 is_alone broken && within 30 all_applied broken || fail "it is not tried again: $(on gw-b replication status broken)"
! is_failing || fail "it still says that it fails"
is_as_it_must_be gw-b broken "after its backing had failed"

on gw-b replication promote files --force >/dev/null || fail "files cannot be taken as it is"

# A snapshot is what is served: it waits until all is below.
if on gw-b disk snapshot many before >"$work/said" 2>&1; then
    [ "$(unapplied many)" = 0 ] || fail "a snapshot was made with $(unapplied many) bytes unapplied"
else
    grep -Eq 'not supported|cannot|reflink' "$work/said" || fail "no snapshot: $(cat "$work/said")"
fi
within 30 all_applied many || fail "it is never all applied"
cmp "$(image gw-b many)" "$work/many.model" || fail "the backing is not what was served"

# The other side follows.
pair_serve gw-a
are_whole() {
    for disk in $disks; do
        is_told gw-b "$disk" link streaming && are_equal "$disk" || return 1
        [ "$disk" = files ] || cmp -s "$(image gw-a "$disk")" "$work/$disk.model" || return 1
    done
}
within 40 are_whole || fail "the other side has other contents: $(on gw-b replication status many)"
pair_kill gw-b TERM || fail "gw-b did not stop cleanly"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The files of two killed gateways are read by a reader written from docs/replication-format.md alone: role, epoch and
# size are what status said, what the primary wrote alone is named in bitmap or activity log, what the
# replica's journal has makes the primary's image, what waits on SSD for a lost peer makes the peer's image the primary's, a
# seal names what was given up, and the last verify is what was said of it.  Damaged files are refused.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq qemu-io
make_pair "link: { heartbeat: 100ms, timeout: 2s }"
replicated_disk d 6b000000-0000-4000-8000-000000000001 8MiB "peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
replicated_disk s 6b000000-0000-4000-8000-000000000002 8MiB \
    "mode: async, peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB }, spill: { size: 16MiB },"
files() { echo "$work/$1/state/disks/${2:-d}/filters/replication"; }
read_files() { # GATEWAY [IMAGE]
    $python "$top_srcdir/tests/replication-files.py" "$(files "$1")" ${2:+"$2"} >"$work/read" || fail "$1 cannot be read"
}
says() { grep -Eq "$1" "$work/read" || fail "no \"$1\" in: $(cat "$work/read")"; }
is_whole() { is_told gw-a d link streaming && are_equal d; }
io() { # GATEWAY COMMAND...
    address=$(address_at "$1" d)
    shift
    qemu-io -f raw "$address" "$@" -c flush >/dev/null || fail "qemu-io"
}

pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
on gw-a replication promote d --force >/dev/null || fail "not promoted"
on gw-a replication promote s --force >/dev/null || fail "not promoted"
within 20 is_whole || fail "no copy"
within 20 is_told gw-a s link streaming || fail "no copy of s"
on gw-a verify d >/dev/null || fail "they are not the same"

# --- the journal ---
# The reader first spoils all that the journal's records are about.  They are applied so slowly that some are left.
within 10 is_told gw-b s journal_bytes 0 || fail "s is not applied"
sed -i '/^filters:/s/\]$/, qos: { iops: 1, at: backing }]/' "$work/gw-b/etc/disks.d/d.yaml"
on gw-b reload >/dev/null || fail "no reload"
io gw-a -c "write -P 1 0 64k" -c "write -P 2 4k 300k" -c "write -z 12k 8k" -c "discard 1M 1M" -c "write -P 3 7M 1M" -c "write -P 4 513k 1k"
pair_kill gw-b
sed -i '/^filters:/s/, qos: .*/]/' "$work/gw-b/etc/disks.d/d.yaml"
cp "$(image gw-b d)" "$work/redone"
read_files gw-b "$work/redone"
says "^super role=secondary data=consistent alone=0 split=0 epoch=$(told gw-a d epoch) size=8388608 "
says "^journal end=[0-9]* records=[1-9][0-9]* cut=0 writes=[1-9]"
cmp "$(image gw-a d)" "$work/redone" || fail "the journal does not make the disk: $(cat "$work/read")"

# --- the evidence ---
within 10 is_told gw-a d alone 1 || fail "gw-a is not alone"
io gw-a -c "write -P 5 3M 4k" -c "write -P 6 5312k 4k"
epoch=$(told gw-a d epoch)
qemu-io -f raw "$(address_at gw-a s)" -c "write -P 8 0 512k" -c "write -P 9 256k 64k" -c "write -z 128k 64k" -c "discard 3M 1M" \
    -c "write -P 10 5M 256k" -c flush >/dev/null || fail "qemu-io"
within 10 is_told gw-a s tier ssd || fail "what the lost peer lacks is not in the file: $(on gw-a replication status s)"
pair_kill gw-a
$python "$top_srcdir/tests/replication-files.py" "$(files gw-a s)" "" "$(image gw-b s)" >"$work/read" || fail "s cannot be read"
says "^spill records=[5-9][0-9]* from=[1-9][0-9]* to=[1-9]"
are_equal s || fail "what is in the file does not make the disk: $(cat "$work/read")"
read_files gw-a
says "^verified outcome=same repaired=0 began=[1-9][0-9]* seconds=[0-9]* bytes=8388608 differing=0 unread=0 skipped=0"
says "^super role=primary data=[a-z]* alone=1 split=0 epoch=$epoch size=8388608 "
says "^evidence generation=[1-9][0-9]* active=(.*,)?3[, ]|^evidence .*dirty=(.*,)?48(,|$)"
says "^evidence generation=[1-9][0-9]* active=(.*,)?5[, ]|^evidence .*dirty=(.*,)?83(,|$)"

# --- a seal ---
pair_serve gw-b
on gw-b replication promote d --force >/dev/null || fail "gw-b is not promoted"
io gw-b -c "write -P 7 0 4k"
pair_serve gw-a
within 10 is_told gw-a d split 1 || fail "no split brain"
on gw-a replication discard d >/dev/null || fail "nothing is given up"
is_back() { is_told gw-b d link streaming && are_equal d; }
within 20 is_back || fail "gw-a does not follow"
pair_kill gw-a
read_files gw-a
says "^seal epoch=[0-9]* reason=1 grains=(.*,)?48,(.*,)?83(,|$)"

# --- damage ---
refused() {
    ! said=$($python "$top_srcdir/tests/replication-files.py" "$(files gw-a)" 2>&1 >/dev/null) || fail "taken: $1"
    case $said in "replication-files: $1"*) ;; *) fail "it says: $said" ;; esac
}
cp "$(files gw-a)/super" "$work/super"
printf X | dd of="$(files gw-a)/super" bs=1 seek=33 conv=notrunc status=none
refused "super is damaged"
cp "$work/super" "$(files gw-a)/super"
printf X | dd of="$(files gw-a)/verified" bs=1 seek=33 conv=notrunc status=none
refused "verified is damaged"
rm "$(files gw-a)/verified"
dd if=/dev/urandom of="$(files gw-a)/evidence" bs=4096 count=2 conv=notrunc status=none
refused "no activity log counts"
pair_kill gw-b TERM || fail "gw-b did not stop cleanly"

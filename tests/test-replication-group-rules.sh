#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A group of replicated disks is one or is nothing: it is served when all its disks are open; a verb for one of them is
# about all; `sluice failover` takes it as a whole, both ways; a disk neither leaves it, nor joins it, nor grows while
# it is replicated, and each time the reason is said and everything goes on as it was.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq
make_pair
options="peer_timeout: 300ms, peer_wait: 0s,"
member() { # NAME NUMBER [OPTIONS]
    replicated_disk "$1" "4f000000-0000-4000-8000-00000000000$2" 2100KiB "${3:-$options}"
    for name in gw-a gw-b; do
        echo "group: erp" >>"$work/$name/etc/disks.d/$1.yaml"
    done
}
member data 1
member log 2
member index 3

# --- all or nothing at the start ---
mkdir "$work/away"
hide() { # what lies below one of them cannot be opened
    mkdir -p "$work/gw-a/index.raw"
}
hide
pair_serve gw-a
pair_serve gw-b
is_held() {
    on gw-a status --json | jq -e ".disks[] | select(.name == \"$1\") | .sentence | test(\"other disks of its group\")" >/dev/null
}
within 10 is_held data || fail "data does not wait for its group: $(on gw-a status --json)"
on gw-a replication promote log --force >"$work/said" 2>&1 && fail "a part of a group was promoted"
grep -q "group erp is replicated as one, and only 2 of its 3 disks are open" "$work/said" || fail "said: $(cat "$work/said")"
rmdir "$work/gw-a/index.raw"
is_whole() {
    [ "$(told gw-a data group_disks 2>/dev/null)" = 3 ]
}
within 60 is_whole || fail "the group is not formed when its last disk opens"

# --- without contents one may leave, and come back; the others wait for it ---
leave() {
    mv "$work/$1/etc/disks.d/log.yaml" "$work/away" && on "$1" reload >"$work/said" 2>&1 || fail "log does not leave: $(cat "$work/said")"
}
come_back() {
    mv "$work/away/log.yaml" "$work/$1/etc/disks.d" && on "$1" reload >"$work/said" 2>&1 || fail "log does not come back: $(cat "$work/said")"
}
leave gw-a
within 10 is_held index || fail "index does not wait when log has left"
come_back gw-a
within 10 is_whole || fail "the group is not formed again"

# --- one verb for all of it ---
within 10 are_connected || fail "no connection"
on gw-a replication promote log --force >/dev/null || fail "the group is not promoted"
is_role() { # GATEWAY ROLE: all of them
    [ "$(on "$1" status --json | jq -r '[.disks[].role] | unique | join(",")')" = "$2" ]
}
within 10 is_role gw-a primary || fail "not all disks are primary: $(on gw-a status)"
is_following() {
    is_told gw-a data link streaming
}
within 20 is_following || fail "the copy does not end"
for disk in data log index; do
    head -c 2097152 /dev/urandom >"$work/$disk.now"
    qemu-io -f raw -c "write -s $work/$disk.now 0 2M" -c flush "$(address_at gw-a $disk)" >/dev/null || fail "no write to $disk"
done
moves_to() { # GATEWAY NAME
    on "$1" failover "$2" --to "$1" --yes >"$work/said" 2>&1
}
has_moved() { # FROM TO
    is_role "$2" primary && is_role "$1" secondary
}
within 20 moves_to gw-b erp || fail "the group does not move: $(cat "$work/said")"
within 20 has_moved gw-a gw-b || fail "not all of it has moved: $(on gw-a status; on gw-b status)"
for disk in data log index; do
    nbdcopy "$(address_at gw-b $disk)" - | head -c 2097152 | cmp - "$work/$disk.now" || fail "$disk has other contents at gw-b"
done
within 20 moves_to gw-a index || fail "it does not move back: $(cat "$work/said")"
within 20 has_moved gw-b gw-a || fail "not all of it is back"
on gw-a replication status log | grep -q "group erp, one instant of 3 disks: data at 0, log at 3145728, index at 6291456" ||
    fail "status does not name the group's disks: $(on gw-a replication status log)"

# --- what would make it another group ---
refused() { # SENTENCE COMMAND...
    sentence=$1
    shift
    "$@" >"$work/said" 2>&1 && fail "done, although \"$sentence\""
    grep -qF "$sentence" "$work/said" || fail "not \"$sentence\" but: $(cat "$work/said")"
}
refused "a replicated disk cannot be resized" on gw-a disk resize log 4MiB
cp -R "$work/gw-a/etc" "$work/whole"
policy=$work/gw-a/etc/disks.d
whole() {
    rm "$policy"/*
    cp "$work/whole/disks.d"/* "$policy"
}
rm "$policy/log.yaml"
refused "group erp is replicated as one with its 3 disks" on gw-a reload
whole
sed -i '/^filters/d' "$policy"/*.yaml
refused "group erp is replicated as one with its 3 disks" on gw-a reload
whole
sed -e 's/0000001/0000009/' -e 's,/data.raw,/more.raw,' "$policy/data.yaml" >"$policy/more.yaml"
refused "group erp is replicated as one with 3 disks, now it has 4" on gw-a reload
whole
on gw-a reload >/dev/null || fail "a reload that changes nothing"
is_role gw-a primary || fail "the group has suffered: $(on gw-a status)"
within 20 is_following || fail "the group has lost its peer"

# --- over a restart: another number of disks, and back ---
pair_kill gw-a TERM || fail "gw-a did not stop cleanly"
rm "$policy/log.yaml"
refuses() { # DISK SENTENCE
    on gw-a status --json | jq -e ".disks[] | select(.name == \"$1\") | .sentence | test(\"$2\")" >/dev/null
}
any_refuses() {
    refuses data "$1" || refuses index "$1"
}
pair_serve gw-a
within 10 any_refuses "was replicated in a group of other disks" || fail "two of three are taken for the group: $(on gw-a status --json)"
pair_kill gw-a TERM
sed -i '/^group/d' "$policy"/*.yaml
pair_serve gw-a
within 10 refuses data "was replicated in a group of other disks" || fail "a part of a group is taken for a lone disk"
pair_kill gw-a TERM
whole
pair_serve gw-a
within 20 is_following || fail "the whole group is not taken back: $(on gw-a status)"
for disk in data log index; do
    are_equal $disk || fail "$disk differs"
done
pair_kill gw-a TERM || fail "gw-a did not stop cleanly"
pair_kill gw-b TERM || fail "gw-b did not stop cleanly"
echo "a group of 3 disks: held until it was whole, moved twice as one, and kept as it was by 7 refusals"

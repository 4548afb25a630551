# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
# failover-functions.sh: sourced after guest/functions.sh and replication-functions.sh: failovers of the disk `vm` amid
# the writes of a guest.
#
#   start_pair                   both gateways, gw-a primary; @PEER@ in the policy is filled in
#   fail_over_amid_writes KILLS  PLANNED times (1) to and fro by plan, then KILLS times kill -9 and force; $primary serves then
#   end_guest_load LEAST REGEX   the guest's files and records are right, it has not said such a thing, and both images are
#                                equal, with a clean file system
#
# machine_is_lost and machine_is_back may be defined again.

start_pair() {
    sed -i 's/@PEER@/gw-b/' "$work/gw-a/etc/disks.d/vm.yaml"
    sed -i 's/@PEER@/gw-a/' "$work/gw-b/etc/disks.d/vm.yaml"
    pair_serve gw-a
    pair_serve gw-b
    within 10 are_connected || fail "no connection"
    on gw-a replication promote vm --force >/dev/null || fail "gw-a cannot be promoted"
    within 30 is_following gw-a || fail "gw-b does not follow"
    primary=gw-a
}

is_following() {
    is_told "$1" vm link streaming && is_told "$(other_half "$1")" vm link receiving
}

# Counted since its start: by the writes of guests.
written_at() {
    on "$1" disk show vm --json 2>/dev/null | jq -r '.io.operations.write.requests // 0'
}

is_amid_writes() {
    [ "$(written_at "$primary")" -ge "$wanted" ] && on "$primary" disk show vm --json | jq -e '.io.in_flight > 0' >/dev/null
}

amid_writes() {
    wanted=$(($(written_at "$primary") + 50))
    within 120 is_amid_writes || guest_fail "$1: the guest does not write at $primary"
}

has_written() {
    [ "$(written_at "$1")" -gt "$before" ]
}

# first_write GATEWAY WHAT: since $began.
first_write() {
    within 120 has_written "$1" || guest_fail "$2: the guest does not write at $1"
    echo "$2: first write at $1 after $((($(date +%s%N) - began) / 1000000)) ms"
    primary=$1
}

hand_over_to() {
    amid_writes "handover to $1"
    before=$(written_at "$1") began=$(date +%s%N)
    on "$primary" failover vm --to "$1" --yes >"$work/said" 2>&1 || guest_fail "no failover to $1: $(cat "$work/said")"
    first_write "$1" "planned failover"
    within 30 is_following "$primary" || guest_fail "$(other_half "$1") does not follow"
}

machine_is_lost() { pair_kill "$1"; }
machine_is_back() { pair_serve "$1"; }

kill_primary() {
    local other
    other=$(other_half "$primary")
    amid_writes "kill of $primary"
    before=$(written_at "$other") began=$(date +%s%N)
    machine_is_lost "$primary"
    on "$other" failover vm --force --to "$other" --yes >"$work/said" 2>&1 || guest_fail "no failover by force: $(cat "$work/said")"
    first_write "$other" "kill -9 and promotion by force"
    machine_is_back "$(other_half "$other")"
    within 60 is_following "$primary" || guest_fail "the killed gateway does not follow"
}

fail_over_amid_writes() {
    local i
    for ((i = 0; i < ${PLANNED:-1}; i++)); do
        hand_over_to gw-b
        hand_over_to gw-a
    done
    for ((i = 0; i < $1; i++)); do kill_primary; done
    amid_writes "the end"
}

end_guest_load() {
    local records
    records=$(guest 180 'touch /tmp/enough; until grep -q . /tmp/records && grep -q . /tmp/unpack; do sleep 0.1; done; cat /tmp/records') ||
        guest_fail "the load does not end"
    guest 10 'cat /tmp/unpack; ! grep -v "^unpacked" /tmp/unpack' || { guest 20 'dmesg | tail -n 30'; guest_fail "a wrong file"; }
    [ "$records" -ge "$1" ] || guest_fail "a record was refused: $records"
    guest 120 'cd /mnt/unpacked && sha256sum -c SHA256SUMS >/tmp/sums || { grep -v ": OK$" /tmp/sums; exit 1; }; cd /; umount /mnt' || guest_fail "a wrong byte"
    guest 60 'dmesg' >"$work/dmesg"
    grep -iE "$2" "$work/dmesg" && fail "the guest complained"
    guest_off 60
    within 30 are_equal vm || fail "the images differ"
    for name in gw-a gw-b; do pair_kill $name TERM || fail "$name did not stop cleanly"; done
    e2fsck -fn "$(image "$primary" vm)" >"$work/fsck" 2>&1 || { cat "$work/fsck"; fail "ext4 is not clean"; }
    echo "$records records; shut down after $SECONDS s"
}

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Real initiators: libiscsi's tools and QEMU find targets and LUNs, log in with CHAP one way and both,
# use digests; who may not is refused with a reason and told of nothing; a reload adds and removes
# LUNs under a session; status, tasks, metrics and events say who is there.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq iscsi-ls iscsi-inq iscsi-perf qemu-io qemu-img
make_iscsi_config
secret a.chap "user:secret of the host"
secret m.chap "gateway:secret of the gateway"
disk a <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000a
backing: { file: $work/a.raw }
export: { iscsi: { target: both, lun: 3 } }
END
disk b <<END
size: 16MiB
backing: { file: $work/b.raw }
export: { iscsi: { target: both, lun: 7 } }
END
disk c <<END
size: 16MiB
backing: { file: $work/c.raw }
export: { iscsi: { target: secret, chap: a.chap, chap_mutual: m.chap } }
END
disk d <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000d
backing: { file: $work/d.raw }
export: { iscsi: { initiators: ["iqn.2001-04.com.example:host"], networks: ["127.0.0.0/8"] } }
END
disk slow <<END
size: 16MiB
backing: { file: $work/slow.raw }
filters: [delay: { op: read, time: 3s, declared: true }]
export: { iscsi: { target: slow } }
END
# Without a word about iSCSI a disk is a LUN too.
disk plain <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000e
backing: { file: $work/plain.raw }
END
disk hidden <<END
size: 16MiB
uuid: 0a1b2c3d-0000-4000-8000-00000000000f
backing: { file: $work/hidden.raw }
export: { iscsi: { enabled: false } }
END
serve
sluice watch >"$work/events" &
children=$!
is_watched() { grep -q exists "$work/events"; }
within 10 is_watched || fail "watch says nothing"

iscsi-ls "iscsi://$portal" >"$work/ls" 2>&1 || fail "$(cat "$work/ls")"
grep -q "Target:$prefix:both Portal:$portal,1" "$work/ls" || fail "a target is not listed: $(cat "$work/ls")"
! grep -q 00000000000d "$work/ls" || fail "a target is listed to one who may not use it"
iscsi-ls -i iqn.2001-04.com.example:host "iscsi://$portal" >"$work/ls" 2>&1 || fail "$(cat "$work/ls")"
grep -q "Target:$prefix:0a1b2c3d-0000-4000-8000-00000000000d" "$work/ls" || fail "$(cat "$work/ls")"
iscsi-inq "$(url 0a1b2c3d-0000-4000-8000-00000000000e)" >/dev/null || fail "a disk is no LUN by default"
! grep -q 00000000000f "$work/ls" || fail "a disk that is not enabled is listed"
iscsi-inq "$(url both 7)" | grep -q "Vendor:SLUICE" || fail "no INQUIRY"

# Refused, with the reason.
refused() {
    ! iscsi-inq "$1" >"$work/out" 2>&1 || fail "$1: was let in"
    within 10 grep -q "$2" "$work/events" || fail "no event \"$2\": $(cat "$work/events")"
}
refused "$(url 0a1b2c3d-0000-4000-8000-00000000000d)" "none of the target's LUNs is for this initiator"
refused "$(url none)" "there is no such target"
refused "$(url secret)" "CHAP"
refused "iscsi://user%wrong@$portal/$prefix:secret/0" "wrong CHAP name or secret"

iscsi-inq "iscsi://user%secret of the host@$portal/$prefix:secret/0" >"$work/out" 2>&1 ||
    fail "CHAP: $(cat "$work/out")"
mutual="target_user=gateway&target_password=secret of the gateway"
iscsi-inq "iscsi://user%secret of the host@$portal/$prefix:secret/0?$mutual" >"$work/out" 2>&1 ||
    fail "mutual CHAP: $(cat "$work/out")"
! iscsi-inq "iscsi://user%secret of the host@$portal/$prefix:secret/0?target_user=gateway&target_password=other" \
    >"$work/out" 2>&1 || fail "a gateway with another secret was believed"

# QEMU, with a header digest, on two LUNs of one target at once.
options() { echo "driver=iscsi,transport=tcp,portal=$portal,target=$prefix:both,lun=$1,header-digest=$2"; }
for digest in none crc32c; do
    for lun in 3 7; do
        qemu-io --image-opts "$(options $lun $digest)" -c "write -P $lun 0 3M" -c "write -P 9 4096 512" \
            -c "read -P $lun 0 4k" -c "read -P 9 4096 512" -c "read -P $lun 8192 2M" -c flush \
            >"$work/out" 2>&1 || fail "qemu-io: $(cat "$work/out")"
        ! grep -q "fail\|error" "$work/out" || fail "qemu-io: $(cat "$work/out")"
    done
done
qemu-img create -q -f raw "$work/image" 16M
qemu-io -f raw -c "write -P 5 1M 12M" "$work/image" >/dev/null
qemu-img convert -n -f raw -O raw "$work/image" "$(url both 3)" || fail "qemu-img convert"
qemu-img compare -f raw -F raw "$work/image" "$(url both 3)" || fail "what was converted differs"
cmp "$work/image" "$work/a.raw" || fail "the backing differs"

# A session in status, and what a reload does to it.
mkfifo "$work/commands"
qemu-io --image-opts "$(options 7 crc32c)" <"$work/commands" >"$work/out" 2>&1 &
children="$children $!"
exec 4>"$work/commands"
session() { sluice status --json | jq -e ".iscsi_sessions[] | select($1)" >/dev/null; }
within 10 session ".target == \"$prefix:both\" and .header_digest and .portal == \"$portal\"" ||
    fail "no session in status: $(sluice status --json | jq -c .iscsi_sessions)"
! sluice disk remove b >"$work/out" 2>&1 || fail "a disk with a session was removed"
sed -i 's/lun: 7/lun: 7, initiators: ["iqn.2001-04.com.example:host"]/' "$config/disks.d/b.yaml"
sed -i 's/lun: 3/lun: 3, initiators: ["iqn.2001-04.com.example:host"]/' "$config/disks.d/a.yaml"
sluice reload || fail "reload"
gone() { ! session ".target == \"$prefix:both\""; }
within 10 gone || fail "a session that may use nothing any more is still there"
exec 4>&-

# A command is among the disk's tasks, with its age and where it is; logins and sessions are counted.
iscsi-perf -i iqn.2001-04.com.example:slow -t 1 -b 8 -m 2 "$(url slow)" >/dev/null 2>&1 &
children="$children $!"
is_listed() {
    sluice disk show slow --tasks --json 2>/dev/null |
        jq -e '.tasks | length >= 2 and all(.op == "read" and .where == "filter" and .age_ns > 0)' >/dev/null
}
within 10 is_listed || fail "tasks: $(sluice disk show slow --tasks --json)"
sluice metrics >"$work/metrics"
value() { sed -n "s/^sluice_iscsi_$1 //p" "$work/metrics"; }
[ "$(value tasks)" -ge 2 ] && [ "$(value sessions)" -ge 1 ] && [ "$(value logins_refused_total)" -ge 4 ] &&
    [ "$(value logins_total)" -ge "$(value logouts_total)" ] || fail "metrics: $(grep iscsi "$work/metrics")"
$python "$top_srcdir/tests/prometheus.py" <"$work/metrics" >/dev/null || fail "metrics are no valid text"
grep -q '"login\|login' "$work/events" && grep -q "logout" "$work/events" || fail "$(cat "$work/events")"
stop TERM

# Whoever may use what from outside is said once a disk.
sed -i "s/iscsi: \[\"127.0.0.1:/iscsi: [\"0.0.0.0:/" "$config/gateway.yaml"
! grep -q "whoever reaches a portal" "$work/log" || fail "a warning with loopback portals"
serve
grep "whoever reaches a portal" "$work/log" | grep -q "disk=plain" || fail "no warning of a disk for all"
! grep "whoever reaches a portal" "$work/log" | grep -q "disk=c$" || fail "a warning of a disk with CHAP"
stop TERM

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Sessions that the gateway ends are told: after a cold reset, when a reload takes their target, and before it stops.
# Then QEMU, by libiscsi, obeys amid its requests, and goes on with the gateway that comes after, without an error.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq python3 qemu-io
make_iscsi_config
disk a <<END
size: 16MiB
backing: { file: $work/a.raw }
filters: [delay: { op: write, time: 50ms, declared: true }]
export: { iscsi: { target: one } }
END
disk b <<END
size: 16MiB
backing: { file: $work/b.raw }
export: { iscsi: { target: other } }
END
serve
cat >"$work/reload" <<END
sed -i 's/target: other/target: other, initiators: ["iqn.2001-04.com.example:nobody"]/' "$config/disks.d/b.yaml"
exec "$sluice_program" reload --config "$config"
END
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 $python "$top_srcdir/tests/iscsi-farewell.py" \
    "$port" $prefix:one $prefix:other "$gateway" sh "$work/reload" || fail "farewells"
wait "$gateway" || fail "after SIGTERM the gateway exited with $?"
serve

# 32 writes of 50 ms each, one after the other, with the gateway stopped and started amid them.
{
    for i in $(seq 32); do echo "write -P $i $((i * 64))k 64k"; done
    for i in $(seq 32); do echo "read -P $i $((i * 64))k 64k"; done
} >"$work/commands"
qemu-io --image-opts "driver=iscsi,transport=tcp,portal=$portal,target=$prefix:one,lun=0" <"$work/commands" >"$work/out" 2>&1 &
client=$!
children=$client
is_writing() { sluice disk show a --json | jq -e '.io.operations.write.bytes >= 262144' >/dev/null; }
within 20 is_writing || fail "QEMU does not write"
stop TERM
grep "logout target=$prefix:one" "$work/log" | tail -n 1 | grep -q "reason:logged out" || fail "QEMU did not log out when it was asked to"
serve
wait $client || fail "qemu-io exited with $?: $(tail "$work/out")"
! grep -iE 'fail|error' "$work/out" || fail "qemu-io: $(tail "$work/out")"
[ "$(grep -c 'read 65536/65536' "$work/out")" = 32 ] || fail "qemu-io did not read all: $(tail "$work/out")"
stop TERM

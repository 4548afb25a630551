#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Disks are exports: listed ones are listed, unknown ones refused; read-only, exclusive and grown disks
# show as such to the next connection; the default export of a gateway with one disk is that disk.
. "${top_srcdir:-.}/tests/functions.sh"
requires nbdinfo qemu-io jq
make_config
disk plain <<END
size: 8MiB
backing: { file: $work/plain.raw }
END
disk alone <<END
size: 8MiB
backing: { file: $work/alone.raw }
export: { nbd: { exclusive: true } }
END
disk hidden <<END
size: 8MiB
backing: { file: $work/hidden.raw }
export: { nbd: { listed: false } }
END
truncate -s 4M "$work/ro.raw"
disk ro <<END
read_only: true
backing: { file: $work/ro.raw }
END
serve

names=$(nbdinfo --list --json "$(uri '')" | jq -r '.exports[]."export-name"' | sort | tr '\n' ' ')
[ "$names" = "alone plain ro " ] || fail "listed: $names"
nbdinfo "$(uri nobody)" 2>"$work/err" && fail "an unknown export was served"
[ "$(nbdinfo --size "$(uri hidden)")" = 8388608 ] || fail "an unlisted disk cannot be mounted"

nbdinfo --is read-only "$(uri ro)" || fail "ro is not read-only"
nbdinfo --can multi-conn "$(uri plain)" || fail "no multi-conn"
nbdinfo --can trim "$(uri plain)" || fail "no trim"
nbdinfo --can fua "$(uri plain)" || fail "no FUA"
nbdinfo --can zero "$(uri plain)" || fail "no zero"

# While one client has it, a second one is refused.
qemu-io -f raw -c 'write -P 7 0 1M' "$(uri alone)" >/dev/null || fail "cannot write to alone"
nbdsh_hold() {
    "$nbd_load" "$(uri alone)" --seconds 60 --depth 1 --blocks 16 >/dev/null 2>&1
}
clients() { sluice disk show alone --json | jq '.clients | length'; }
has_no_client() { [ "$(clients)" -eq 0 ]; }
within 10 has_no_client || fail "a client that is gone still shows"
nbdsh_hold &
holder=$!
children=$holder
has_client() { [ "$(clients)" -ge 1 ]; }
within 10 has_client || fail "status shows no client"
nbdinfo "$(uri alone)" >/dev/null 2>&1 && fail "a second client was let in"

sluice disk resize plain 16MiB || fail "resize"
[ "$(nbdinfo --size "$(uri plain)")" = 16777216 ] || fail "the next connection does not see the new size"
sluice disk resize plain 8MiB 2>"$work/err" && fail "a disk was made smaller"
grep -q smaller "$work/err" || fail "no reason: $(cat "$work/err")"
stop TERM

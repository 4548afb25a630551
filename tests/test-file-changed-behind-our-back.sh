#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What somebody does to a disk's file while it is served: cut short, it is an error to read what is gone, and not zeros;
# put in another's place, it is not taken for the one that was there, and status says what to do; a second gateway on
# the same state and files serves none of them, and the first does not notice.
. "${top_srcdir:-.}/tests/functions.sh"
requires qemu-io jq
make_config
for name in cut swapped; do
    disk $name <<END
size: 1MiB
backing: { file: $work/$name.raw }
END
done
serve
at() { qemu-io -f raw "$(uri "$1")" -c "$2" >"$work/out" 2>&1; }
for name in cut swapped; do
    at $name "write -P 7 0 1M" || fail "cannot write: $(cat "$work/out")"
done

truncate -s 4096 "$work/cut.raw"
at cut "read -P 7 0 4k" || fail "what is left cannot be read: $(cat "$work/out")"
! at cut "read 512k 4k" || fail "what is gone can be read"
at swapped "read -P 7 0 1M" || fail "another disk is hurt"

# --- the old one is still open; when it is opened anew, another is refused, and so is none
cp "$work/swapped.raw" "$work/other"
mv "$work/swapped.raw" "$work/old"
! sluice disk reopen swapped 2>"$work/errors" || fail "nothing was opened"
cp "$work/other" "$work/swapped.raw"
! sluice disk reopen swapped 2>"$work/errors" || fail "another file was opened"
grep -q "is another file than before.*put the old one back" "$work/errors" || fail "why not: $(cat "$work/errors")"
! at swapped "read 0 4k" || fail "another file is served"
sluice status >"$work/status"
[ $? -eq 2 ] || fail "status is satisfied: $(cat "$work/status")"
grep -q "^swapped  *FAILED" "$work/status" || fail "status: $(cat "$work/status")"
grep -q "do: put back what was there, then: sluice disk reopen swapped" "$work/status" || fail "remedy: $(cat "$work/status")"
mv "$work/old" "$work/swapped.raw"
sluice disk reopen swapped >"$work/out" 2>&1 || fail "the old one is refused: $(cat "$work/out")"
at swapped "read -P 7 0 1M" || fail "the old one cannot be read: $(cat "$work/out")"

# --- a second gateway with sockets of its own
cp -r "$config" "$work/second"
sed -i "s|$sock|$work/second.sock|; s|control.sock|second-control.sock|" "$work/second/gateway.yaml"
"$sluice_program" serve --config "$work/second" >"$work/second.log" 2>&1 &
children=$!
refuses() {
    "$sluice_program" status --json --config "$work/second" 2>/dev/null >"$work/status"
    [ "$(jq -r '.disks[].state' "$work/status" 2>/dev/null | sort | uniq -c | tr -s ' ')" = " 2 failed" ]
}
within 30 refuses || fail "the second gateway: $(cat "$work/status" "$work/second.log")"
grep -q "is in use by another gateway" "$work/status" || fail "why: $(cat "$work/status")"
! qemu-io -f raw "nbd+unix:///swapped?socket=$work/second.sock" -c "read 0 4k" >"$work/out" 2>&1 || fail "it serves"
at swapped "write -P 8 0 64k" || fail "the first gateway is hurt: $(cat "$work/out")"
stop

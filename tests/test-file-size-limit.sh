#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A write to behind the largest size a file may have (RLIMIT_FSIZE here, else that of the file system) makes the
# kernel send SIGXFSZ, which ends a process that does not expect it.  It must be that write's error, and nobody else's;
# and status says so for a minute, or until the backing is opened anew.
. "${top_srcdir:-.}/tests/functions.sh"
requires prlimit qemu-io jq

make_config
for name in big small; do
    disk $name <<END
size: 4MiB
backing: { file: $work/$name.raw }
END
done
serve
at() { qemu-io -f raw "$(uri "$1")" -c "$2" >"$work/out" 2>&1; }

at big "write -P 1 3M 64k" || fail "a write before the limit: $(cat "$work/out")"
prlimit --pid "$gateway" --fsize=2097152:unlimited || fail "no limit could be set"
! at big "write -P 2 3M 64k" || fail "a write behind the limit is said to be done"
grep -q 'No space left\|File too large' "$work/out" || fail "the error of a write behind the limit: $(cat "$work/out")"
state_is() { sluice status --json | jq -e ".disks[] | select(.name == \"$1\") | .state == \"$2\" and (.sentence // \"\" | test(\"$3\"))" >/dev/null; }
state_is big degraded "requests fail in the backing, .*(No space left|File too large)" || fail "status does not tell: $(sluice status --json)"
state_is small ok "" || fail "status blames another disk"
kill -0 "$gateway" || fail "the gateway is gone"
at big "read -P 1 3M 64k" || fail "what was there has changed: $(cat "$work/out")"
at big "write -P 3 1M 64k" || fail "a write before the limit fails: $(cat "$work/out")"
at small "write -P 4 0 64k" || fail "another disk is hurt: $(cat "$work/out")"
prlimit --pid "$gateway" --fsize=unlimited:unlimited || fail "the limit could not be lifted"
at big "write -P 5 3M 64k" || fail "a write when the limit is gone: $(cat "$work/out")"
at big "read -P 5 3M 64k" || fail "it was not done: $(cat "$work/out")"
sluice disk reopen big >/dev/null || fail "not opened anew"
state_is big ok "" || fail "status blames a backing that was opened anew: $(sluice status --json)"
stop

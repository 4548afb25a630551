#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The SSD of a write-back cache does not answer any more: its server behind a FUSE file is stopped, so system calls
# there do not return.  Every request is answered within ssd.timeout and a moment, those that were under way too: writes
# go to the backing, what the backing has is read, only what is on the tier alone fails.  When the SSD answers again,
# all of it gets to the backing, and what comes late does no harm.  A gateway that was itself stopped for longer than
# ssd.timeout does not take that for the SSD's.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdkit nbdfuse
nbdkit -f -U "$work/ssd.sock" memory 16M >>"$work/log" 2>&1 &
ssd=$!
children="$children $ssd"
is_there() { test -S "$work/ssd.sock"; }
within 20 is_there || fail "no nbdkit"
touch "$work/tier"
nbdfuse "$work/tier" "nbd+unix:///?socket=$work/ssd.sock" >>"$work/log" 2>&1 &
fuse=$!
end_servers() { # first of all, or nothing that waits for it can end
    kill -CONT "$ssd" 2>/dev/null
    kill -9 "$ssd" 2>/dev/null
    umount -l "$work/tier" 2>/dev/null
}
is_mounted() { [ "$(stat -c %s "$work/tier")" = 16777216 ]; }
within 5 is_mounted || {
    echo "a FUSE file cannot be mounted here"
    exit 77
}
children="$children $fuse"

make_config
truncate -s 16M "$work/d.raw"
disk d <<END
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 64KiB, ssd: { path: $work/tier, size: 16MiB, timeout: 2s }, dirty: { soft: 80, hard: 90 }, destage: { after: 1h } }
END
io() { # COMMAND...: by a client of its own; its sentence in $work/out
    for command; do set -- "$@" -c "$command"; shift; done
    timeout 6 qemu-io -f raw "$(uri d)" "$@" >"$work/out" 2>&1 && ! grep -qE "failed|error" "$work/out"
}
is_answered() { # COMMAND...: in time, however
    io "$@"
    [ $? -ne 124 ] && ! grep -q "Connection reset" "$work/out"
}
status() {
    sluice cache status d --json | jq -r ".$1"
}
checkpoints() { sluice metrics | sed -n 's/^sluice_cache_checkpoints_total{.* //p'; }
is_at_rest() { [ "$(checkpoints)" -gt "$before" ]; } # a request that comes now is alone on the SSD
is_empty() { [ "$(status dirty_bytes)" = 0 ]; }

# begin NAME COMMAND...: a client that is amid it when the SSD stops; answered NAME: in time
begin() {
    name=$1
    shift
    for command; do set -- "$@" -c "$command"; shift; done
    (
        timeout 6 qemu-io -f raw "$(uri d)" "$@" >"$work/$name.out" 2>&1
        echo $? >"$work/$name.status"
    ) &
    clients="${clients:-} $!"
}

serve
# A gateway that was stopped itself, maybe with the machine it runs on, knows nothing of its SSD by that.
kill -STOP "$ssd"
begin paused "write -P 7 10M 64k" flush
is_under_way() { [ "$(sluice disk show d --json | jq .io.in_flight)" -gt 0 ]; }
within 5 is_under_way || fail "nothing waits for the SSD"
kill -STOP "$gateway"
sleep 2.5 # more than ssd.timeout
kill -CONT "$gateway"
within 5 is_under_way || fail "what waits is gone: $(sluice cache status d)"
kill -CONT "$ssd"
for client in $clients; do wait "$client"; done
clients=
[ "$(cat "$work/paused.status")" = 0 ] || fail "a write after a pause: $(cat "$work/paused.out")"
[ "$(status tier)" != failed ] || fail "the pause is taken for the SSD's: $(grep "has not answered" "$work/log")"

before=$(checkpoints)
io "write -P 1 0 1M" "write -P 2 1M 1M" flush "read -P 1 0 1M" || fail "the load: $(cat "$work/out")"
[ "$(status dirty_bytes)" -ge 2097152 ] || fail "nothing is dirty; this test shows nothing"
within 10 is_at_rest || fail "no checkpoint after the last client has left"
kill -STOP "$ssd"
began=$(date +%s%N)
begin write "write -P 3 4M 64k" flush
begin read "read -P 1 0 64k"
begin large "read 0 1M"
begin other "write -P 4 8M 64k" "write -P 4 9M 64k" "read -P 4 8M 64k"
for client in $clients; do wait "$client"; done
took=$((($(date +%s%N) - began) / 1000000))
for name in write read large other; do
    [ "$(cat "$work/$name.status")" != 124 ] || fail "the client of $name hangs: $(cat "$work/$name.out")"
done
[ $took -lt 5000 ] || fail "$took ms"
[ "$(status tier)" = failed ] || fail "the tier has not failed: $(sluice cache status d)"
grep -qE "failed|error" "$work/write.out" && fail "a write fails: $(cat "$work/write.out")"
grep -qE "failed|error" "$work/other.out" && fail "a write fails: $(cat "$work/other.out")"
grep -q "Input/output error" "$work/read.out" || fail "what is on the tier alone was read: $(cat "$work/read.out")"
sluice status | grep -q "does not answer" || fail "health: $(sluice status)"
is_answered "write -P 5 0 4k" || fail "a write to what is dirty there hangs: $(cat "$work/out")"
io "read -P 3 4M 64k" "write -P 6 12M 64k" flush "read -P 6 12M 64k" || fail "afterwards: $(cat "$work/out")"
echo "an SSD that does not answer: all clients were answered after $took ms"

kill -CONT "$ssd"
within 20 is_empty || fail "the tier is not emptied: $(sluice cache status d)"
sluice status | grep -q "the cache's tier failed; the backing has all of it" || fail "health: $(sluice status)"
io "read -P 1 4k 1020k" "read -P 2 1M 1M" "read -P 3 4M 64k" "read -P 4 8M 64k" "read -P 6 12M 64k" flush ||
    fail "what is there now: $(cat "$work/out")"
stop TERM
qemu-io -f raw -c "read -P 1 4k 1020k" -c "read -P 2 1M 1M" -c "read -P 3 4M 64k" -c "read -P 6 12M 64k" "$work/d.raw" >"$work/out" 2>&1
grep -qE "failed|error" "$work/out" && fail "the backing has something else: $(cat "$work/out")"
echo "it answers again: all of it is in the backing"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# tests/canary, a filter that judges writes on the worker pool, is built outside the tree with the header
# alone and stands on a disk with real clients: allowed writes pass, forbidden ones fail at the client with
# the right error and change nothing, reads go on while a write is being judged, a client that dies during
# a judgement leaves nothing behind; and it is attached, changed and detached under load at depth 32.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq cc qemu-io pkg-config
make_config

# --- built as the README says, from a copy, with the header alone
mkdir -p "$work/include" "$work/filters"
cp "$top_srcdir/filters/sluice-filter.h" "$work/include/"
cp "$top_srcdir/tests/canary/canary.c" "$work/"
(cd "$work" && cc -std=gnu11 -Wall -Wextra -Werror -O2 -shared -fPIC -fvisibility=hidden -I include \
    -o filters/canary.so canary.c) || fail "canary does not build"
SLUICE_FILTER_PATH=$work/filters:$SLUICE_FILTER_PATH
printf 'RANSOM NOTE\n\nALL YOUR FILES\n' >"$work/rules"
"$sluice_program" filter check "$work/filters/canary.so" --set "rules=$work/rules" >"$work/check" 2>&1 ||
    fail "filter check: $(cat "$work/check")"
grep -q '^note  .* requests were cancelled' "$work/check" || fail "$(cat "$work/check")"

policy() {
    disk d <<END
size: 64MiB
backing: { file: $work/d.raw }
filters: [$1]
END
}
counter() { sluice disk show d --json | jq ".filters[] | select(.name == \"canary\") | $1"; }
io() { qemu-io -f raw "$@" "$(uri d)" >"$work/io" 2>&1 && ! grep -q failed "$work/io"; }
policy "canary: { guard: 1MiB, rules: $work/rules }"
serve

# --- what is allowed, and what is not
io -c 'write -P 7 0 64k' -c 'read -P 7 0 64k' || fail "an allowed write: $(cat "$work/io")"
{ head -c 20000 /dev/zero && printf 'xxRANSOM NOTExx'; } >"$work/note"
head -c 65536 /dev/urandom >"$work/random"
refused() {
    io -c "$1" && fail "$1 was not refused"
    grep -q 'Operation not permitted' "$work/io" || fail "$1: $(cat "$work/io")"
}
refused "write -s $work/note 4k 32k"
refused "write -s $work/random 128k 64k"
refused "write -s $work/random 960k 128k" # only half of it lies in the guarded bytes
io -c 'read -P 7 0 64k' -c 'read -P 0 128k 64k' -c 'read -P 0 960k 128k' ||
    fail "a refused write changed something: $(cat "$work/io")"
io -c "write -s $work/random 1M 64k" -c 'write -P 1 960k 64k' || fail "beside the guarded bytes: $(cat "$work/io")"
io -c 'write -z 0 64k' -c 'read -P 0 0 64k' || fail "zeroing is not judged: $(cat "$work/io")"
[ "$(counter .counters.refused)" = 3 ] || fail "counted $(counter .counters.refused) refusals"
[ "$(counter .verdicts.failed)" = 3 ] || fail "the gateway counted $(counter .verdicts.failed)"
[ "$(counter .health.state)" = '"degraded"' ] || fail "health: $(counter .health)"

# --- a judgement takes as long as its rules take to come: until then reads and other writes go on
rm "$work/rules"
mkfifo "$work/rules"
# The end of the pipe that writes: opening it waits for a judge.
release() { timeout 20 sh -c 'printf "RANSOM NOTE\n" >"$0"' "$work/rules" || fail "no worker came for the rules"; }
qemu-io -f raw -c "write -P 9 8k 4k" "$(uri d)" >"$work/slow" 2>&1 &
slow=$!
children=$slow
is_judging() { [ "$(counter .holds.now)" = 1 ]; }
within 20 is_judging || fail "no write is being judged"
io -c 'read -P 0 8k 4k' -c 'read -P 1 960k 64k' -c 'write -P 3 4M 64k' -c 'read -P 3 4M 64k' -c flush ||
    fail "while a write is judged: $(cat "$work/io")"
is_judging || fail "the judgement ended by itself"
release
wait $slow || fail "the judged write failed: $(cat "$work/slow")"
io -c 'read -P 9 8k 4k' || fail "the judged write is not there: $(cat "$work/io")"

# --- a client that dies meanwhile: the worker is told to hurry, the request ends, nothing is written
qemu-io -f raw -c "write -P 10 8k 4k" "$(uri d)" >/dev/null 2>&1 &
dying=$!
children=$dying
within 20 is_judging || fail "no write is being judged"
kill -9 $dying
wait $dying 2>/dev/null
has_no_client() { [ "$(sluice disk show d --json | jq '.clients | length')" = 0 ]; }
is_idle() { [ "$(counter .holds.now)" = 0 ]; }
release
within 20 is_idle || fail "the request of a dead client is held for ever"
within 20 has_no_client || fail "the dead client is still connected"
children=
rm "$work/rules"
echo 'RANSOM NOTE' >"$work/rules"

# nbd-load takes what it has not written for zeros.
io -c 'write -z 0 512k' || fail "zeroing: $(cat "$work/io")"

# --- under load at depth 32: every write of it is judged; the filter leaves, comes back and changes
"$nbd_load" "$(uri d)" --seconds 600 --depth 32 --blocks 128 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
has_judged() { [ "$(counter .counters.judged)" -gt "$least" ]; }
least=$(($(counter .counters.judged) + 200))
within 30 has_judged || fail "no load"
for round in 1 2 3 4 5; do
    policy ""
    sluice reload >"$work/report" 2>&1 || fail "detach under load: $(cat "$work/report")"
    [ "$(sluice disk show d --json | jq '.filters | length')" = 0 ] || fail "not detached"
    policy "canary: { guard: 1MiB, rules: $work/rules }"
    sluice reload >"$work/report" 2>&1 || fail "attach under load: $(cat "$work/report")"
    least=50
    within 30 has_judged || fail "nothing is judged after round $round"
done
policy "canary: { guard: 512KiB, rules: $work/rules }"
sluice reload >"$work/report" || fail "policy change under load"
grep -q 'canary' "$work/report" || fail "the change was not seen: $(cat "$work/report")"
refused "write -s $work/random 256k 64k"
io -c "write -s $work/random 768k 64k" || fail "beyond the new guard: $(cat "$work/io")"
kill -TERM $load
wait $load || fail "the load: $(cat "$work/load.json" "$work/load.err")"
children=
cat "$work/load.json"
[ "$(field "$(cat "$work/load.json")" errors)" = 0 ] || fail "allowed writes were refused"
[ "$(field "$(cat "$work/load.json")" wrong)" = 0 ] || fail "wrong bytes"
stop TERM

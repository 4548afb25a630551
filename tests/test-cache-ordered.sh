#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A write-back cache with `ordered`, over a backing of 1 ms, under commits with a flush each: at LOOKS moments (default
# 30), and after kill -9 KILLS times (4), the backing without the SSD is the disk as it was at a flush, or between it and
# the next; with the SSD again nothing acknowledged is missing.  The same looks find fault with a cache that is not ordered.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdkit nbdsh nbdcopy
history=$top_srcdir/tests/cache-history.py seed=${SEED:-1}
truncate -s 1M "$work/d.raw"
nbdkit -f -U "$work/d.sock" --filter=delay file "$work/d.raw" wdelay=1ms >>"$work/log" 2>&1 &
children=$!
is_there() { test -S "$work/d.sock"; }
within 20 is_there || fail "no nbdkit"
make_config
with_order() {
    disk d <<END
backing: { nbd: 'nbd+unix:///?socket=$work/d.sock' }
filters:
  - cache: { ram: 64KiB, ssd: { path: $work/tier, size: 8MiB }, destage: { after: 20ms, depth: 4 }$1 }
END
}
begin() {
    serve
    $python "$history" commit "$(uri d)" "$seed" "$work/done" 2>>"$work/commits" &
    load=$!
    children="$children $load"
}
has_gone_on() { [ "$(cat "$work/done")" -ge "$goal" ]; }
go_on() { # COMMITS
    goal=$(($(cat "$work/done") + $1))
    within 60 has_gone_on || fail "the load does not go on: $(cat "$work/done") of $goal commits; $(cat "$work/commits")"
}
# What nbdkit is doing ends meanwhile: a part of one commit.
look() {
    kill -STOP "$gateway"
    cp "$work/d.raw" "$work/look.raw"
    kill -CONT "$gateway"
    newest=$($python "$history" check "$work/look.raw" "$seed" 2>"$work/wrong")
}

with_order ', ordered: true'
printf 0 >"$work/done"
begin
behind=0 first=
for i in $(seq "${LOOKS:-30}"); do
    go_on 20
    look || fail "look $i: $(cat "$work/wrong")"
    behind=$((behind + $(cat "$work/done") - newest)) first=${first:-$newest}
done
[ "$newest" -gt "$first" ] || fail "nothing gets to the backing"
[ $behind -gt 0 ] || fail "the backing is never behind; this test shows nothing"
echo "$((i)) looks at the backing, $((behind / i)) commits behind on average: each time an earlier state of the disk"
[ "$(sluice cache status d --json | jq -r .order)" = kept ] || fail "the status says: $(sluice cache status d)"
sluice cache status d | grep -q '^order  *kept$' || fail "the status does not say it to people"
for i in $(seq "${KILLS:-4}"); do
    go_on 100
    stop KILL
    wait "$load"
    newest=$($python "$history" check "$work/d.raw" "$seed" 2>"$work/wrong") || fail "kill $i: $(cat "$work/wrong")"
    echo "kill $i: $(cat "$work/done") commits acknowledged, the backing is at $newest"
    begin
done
stop KILL
wait "$load"
serve
nbdcopy "$(uri d)" "$work/copy.raw" || fail "nbdcopy"
$python "$history" check "$work/copy.raw" "$seed" "$work/done" >"$work/out" 2>"$work/wrong" || fail "acknowledged, and gone: $(cat "$work/wrong")"
sluice cache flush d >/dev/null || fail "flush"
cmp "$work/copy.raw" "$work/d.raw" || fail "the emptied cache's backing differs from the disk"
stop TERM

with_order ''
begin
sees_disorder() { go_on 5; ! look; }
[ "$(sluice cache status d --json | jq -r .order)" = none ] || fail "ordered without being told"
within 60 sees_disorder || fail "without ordered nothing is found; this test shows nothing"
echo "not ordered: $(cat "$work/wrong")"
stop KILL

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A reload attaches, detaches, grows, adds and removes under a verifying load; one whose last step
# fails leaves everything as it was; removing a disk with clients needs --force.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq nbdinfo
make_config
policy() {
    disk "$1" <<END
size: ${3:-8MiB}
backing: { file: $work/$1.raw }
filters: [$2]
END
}
chain() { sluice disk show "$1" --json | jq -r '[.filters[].name] | join(" ")'; }
size() { sluice disk show "$1" --json | jq .size_bytes; }

policy a ""
policy b ""
serve
"$nbd_load" "$(uri a)" --seconds 60 --depth 4 --blocks 1024 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load

# What a dry run says is what is done; nothing is done by it.
policy a "passthru: {}"
sluice diff >"$work/diff" || fail "diff"
grep -q "a: attach passthru" "$work/diff" || fail "diff says: $(cat "$work/diff")"
[ "$(chain a)" = "" ] || fail "a dry run did something"
sluice reload >"$work/report" || fail "reload"
[ "$(chain a)" = passthru ] || fail "attached: $(chain a)"
sluice diff | grep -qx "nothing to do" || fail "still something to do"

# The last step fails: a disk whose backing cannot be had.  All before it is taken back.
policy a ""
policy c "passthru: {}"
rm "$config/disks.d/b.yaml"
disk d <<END
backing: { file: $work/nowhere/d.raw }
END
sluice reload 2>"$work/err" && fail "a disk that cannot be opened was added"
grep -q "nowhere" "$work/err" || fail "no reason: $(cat "$work/err")"
names=$(sluice disk list --json | jq -r '[.disks[].name] | join(" ")')
[ "$names" = "a b" ] || fail "after the failed reload there are: $names"
[ "$(chain a)" = passthru ] || fail "the chain of a was not put back: $(chain a)"
nbdinfo --size "$(uri b)" >/dev/null || fail "b is not served any more"

# Without it, the rest goes.
rm "$config/disks.d/d.yaml"
policy a "" 16MiB
sluice reload >/dev/null || fail "reload"
names=$(sluice disk list --json | jq -r '[.disks[].name] | join(" ")')
[ "$names" = "a c" ] || fail "there are: $names"
[ "$(size a)" = 16777216 ] || fail "a is $(size a) bytes"
[ "$(chain c)" = passthru ] || fail "c has: $(chain c)"

# Refused: smaller, another backing, a broken file.  The sentence says where.
policy a "" 4MiB
sluice reload 2>"$work/err" && fail "made smaller"
grep -q "cut off data" "$work/err" || fail "$(cat "$work/err")"
echo "size: [" >"$config/disks.d/a.yaml"
sluice reload 2>"$work/err" && fail "reloaded a broken file"
grep -q "disks.d/a.yaml:" "$work/err" || fail "$(cat "$work/err")"
kill -HUP $gateway
has_logged() { grep -q "reload:.*disks.d/a.yaml:" "$work/log"; }
within 10 has_logged || fail "SIGHUP told nobody about the broken file"

# A disk with clients is removed by force only; the load then loses it.
rm "$config/disks.d/a.yaml"
sluice reload 2>"$work/err" && fail "removed a disk that has a client"
grep -q "client" "$work/err" || fail "$(cat "$work/err")"
kill -0 $load || fail "the load has ended: $(cat "$work/load.err")"
kill -TERM $load
wait $load || fail "the load: $(cat "$work/load.json" "$work/load.err")"
[ "$(field "$(cat "$work/load.json")" errors)" = 0 ] || fail "requests failed"
"$nbd_load" "$(uri c)" --seconds 60 --depth 1 --blocks 1024 >/dev/null 2>&1 &
children=$!
has_client() { [ "$(sluice disk show c --json | jq '.clients | length')" -ge 1 ]; }
within 10 has_client || fail "c has no client"
rm "$config/disks.d/c.yaml"
sluice reload --force >/dev/null || fail "reload --force"
[ "$(sluice disk list --json | jq '.disks | length')" = 0 ] || fail "disks are left"
stop TERM

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk goes from one gateway to the other and back, again and again, under a client that writes stamped blocks,
# reads them back and connects again to where hooks.d/promoted says: no error and no wrong byte; each hook
# is run once with the disk, the group and the epoch; a role survives kill -9; a secondary lets nobody in; `sluice
# failover` and `sluice peer check` do so from either side.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
requires jq nbdkit nbdinfo
make_pair "link: { heartbeat: 100ms, timeout: 2s }"
# Nothing is copied: both have the same backing.
nbdkit -f -U "$work/backing.sock" memory 64M &
children="$children $!"
within 5 nbdinfo "nbd+unix:///?socket=$work/backing.sock" >/dev/null 2>&1 || fail "no backing"
pair_disk vm <<END
group: vm-group
backing: { nbd: "nbd+unix:///?socket=$work/backing.sock" }
filters: [pairrole: { primary: gw-a }]
END
for name in gw-a gw-b; do
    mkdir "$work/$name/etc/hooks.d"
    for what in promoted demoted; do
        cat >"$work/$name/etc/hooks.d/$what" <<END
#!/bin/sh
echo "$name $what \$*" >>"$work/hooks"
[ $what = demoted ] || { ln -s "$work/$name/nbd.sock" "$work/new.$name" && mv -T "$work/new.$name" "$work/vm.sock"; }
END
        chmod +x "$work/$name/etc/hooks.d/$what"
    done
    pair_serve $name
done
within 10 are_connected || fail "no connection"
role_of() {
    on "$1" disk show vm --json | jq -r '.role'
}
has_role() {
    [ "$(role_of "$1")" = "$2" ]
}
# A client that is slow to come back would miss a role that comes and goes.
requests_at() {
    on "$1" disk show vm --json | jq '[.io.operations[].requests] | add'
}
has_more_requests() {
    [ "$(requests_at "$1")" -gt "$2" ]
}
is_followed_to() {
    within 60 has_more_requests "$1" "$(requests_at "$1")" || fail "the client did not come to $1, round $round"
}
within 5 has_role gw-a primary || fail "gw-a is $(role_of gw-a)"
within 5 has_role gw-b secondary || fail "gw-b is $(role_of gw-b)"
nbdinfo "nbd+unix:///vm?socket=$work/gw-b/nbd.sock" >/dev/null 2>&1 && fail "a secondary lets a client in"
ln -sfn "$work/gw-a/nbd.sock" "$work/vm.sock"

# --- to and fro under load ---
"$nbd_load" "nbd+unix:///vm?socket=$work/vm.sock" --seconds 60 --depth 8 --reconnect 10 >"$work/load" &
load=$!
children="$children $load"
round=0
is_followed_to gw-a
for round in 1 2 3 4 5; do
    on gw-b pairrole failover vm >/dev/null || fail "to gw-b, round $round"
    has_role gw-b primary && has_role gw-a secondary || fail "roles after round $round"
    is_followed_to gw-b
    on gw-a pairrole failover vm >/dev/null || fail "to gw-a, round $round"
    has_role gw-a primary && has_role gw-b secondary || fail "roles after round $round"
    is_followed_to gw-a
done
kill -TERM $load
wait $load || fail "the client saw an error or a wrong byte: $(cat "$work/load")"
[ "$(field "$(cat "$work/load")" reconnects)" -ge 10 ] || fail "the client was not sent away: $(cat "$work/load")"
echo "10 changes of the role: $(cat "$work/load")"
[ "$(grep -c "promoted vm vm-group" "$work/hooks")" -eq 11 ] || fail "hooks: $(cat "$work/hooks")"
[ "$(grep -c "demoted vm vm-group" "$work/hooks")" -eq 10 ] || fail "hooks: $(cat "$work/hooks")"
tail -n 1 "$work/hooks" | grep -q "gw-a promoted vm vm-group 11" || fail "the last hook: $(tail -n 1 "$work/hooks")"

# --- over kill -9 ---
on gw-b pairrole failover vm >/dev/null || fail "to gw-b once more"
for name in gw-a gw-b; do
    pair_kill $name
    pair_serve $name
done
within 5 has_role gw-b primary && has_role gw-a secondary || fail "roles after kill -9: $(role_of gw-a) $(role_of gw-b)"
nbdinfo "nbd+unix:///vm?socket=$work/gw-b/nbd.sock" >/dev/null 2>&1 || fail "the primary does not serve after kill -9"
nbdinfo "nbd+unix:///vm?socket=$work/gw-a/nbd.sock" >/dev/null 2>&1 && fail "after kill -9 a secondary lets a client in"

# --- the command, from either side ---
on gw-a failover vm --yes >"$work/out" 2>"$work/said" || fail "failover: $(cat "$work/said")"
grep -q "vm is served by gw-a" "$work/out" || fail "failover says $(cat "$work/out")"
grep -q "vm goes to gw-a with epoch 13" "$work/said" || fail "it did not say what it would do: $(cat "$work/said")"
has_role gw-a primary || fail "gw-a is $(role_of gw-a)"
echo no | on gw-a failover vm-group >/dev/null 2>"$work/said"
[ $? -eq 2 ] && has_role gw-a primary || fail "the name was not typed, and yet: $(cat "$work/said")"
echo vm-group | on gw-a failover vm-group >"$work/out" 2>"$work/said" || fail "failover from the primary: $(cat "$work/said")"
grep -q "vm-group is served by gw-b" "$work/out" || fail "failover says $(cat "$work/out")"
has_role gw-b primary || fail "gw-b is $(role_of gw-b)"
on gw-a failover nothing --yes >/dev/null 2>"$work/said" && fail "a failover of nothing"
grep -q 'no disk or group "nothing"' "$work/said" || fail "$(cat "$work/said")"
on gw-a failover vm --to gw-c --yes >/dev/null 2>"$work/said" && fail "a failover to nobody"
grep -q "gw-c is none of the peers" "$work/said" || fail "$(cat "$work/said")"
on gw-a peer check >"$work/out" || fail "peer check: $(cat "$work/out")"
grep -q "^gw-b  connected, TLSv1.3 .*certificate until 20.*, version" "$work/out" || fail "peer check: $(cat "$work/out")"
grep -q "vm: secondary here" "$work/out" && grep -q "vm: primary there" "$work/out" || fail "peer check: $(cat "$work/out")"
pair_kill gw-b
sed -i 's/primary: gw-a/primary: gw-b/; s/^group: vm-group/group: other/' "$work/gw-b/etc/disks.d/vm.yaml"
pair_serve gw-b
within 10 are_connected || fail "no connection"
on gw-a peer check >"$work/out"
[ $? -eq 2 ] || fail "peer check finds no difference: $(cat "$work/out")"
grep -q 'DIFFERS  vm: primary: "gw-a" here, "gw-b" there' "$work/out" || fail "peer check: $(cat "$work/out")"
grep -q 'DIFFERS  vm: group: "vm-group" here, "other" there' "$work/out" || fail "peer check: $(cat "$work/out")"

# --- by force, the other one gone ---
pair_kill gw-b
on gw-a pairrole failover vm >/dev/null 2>&1 && fail "a planned failover from a dead gateway"
on gw-a pairrole failover vm --force >/dev/null || fail "a forced failover"
nbdinfo "nbd+unix:///vm?socket=$work/gw-a/nbd.sock" >/dev/null 2>&1 || fail "after a forced failover nobody is served"

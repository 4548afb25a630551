#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk goes from one gateway to the other and back, again and again, under a client that writes stamped blocks,
# reads them back and connects again to where hooks.d/promoted says: no error and no wrong byte; each hook
# is run once with the disk, the group and the epoch; a role survives kill -9; a secondary lets nobody in.
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
within 5 has_role gw-a primary || fail "gw-a is $(role_of gw-a)"
within 5 has_role gw-b secondary || fail "gw-b is $(role_of gw-b)"
nbdinfo "nbd+unix:///vm?socket=$work/gw-b/nbd.sock" >/dev/null 2>&1 && fail "a secondary lets a client in"
ln -s "$work/gw-a/nbd.sock" "$work/vm.sock"

# --- to and fro under load ---
"$nbd_load" "nbd+unix:///vm?socket=$work/vm.sock" --seconds 60 --depth 8 --reconnect 10 >"$work/load" &
load=$!
children="$children $load"
for round in 1 2 3 4 5; do
    on gw-b pairrole failover vm >/dev/null || fail "to gw-b, round $round"
    has_role gw-b primary && has_role gw-a secondary || fail "roles after round $round"
    on gw-a pairrole failover vm >/dev/null || fail "to gw-a, round $round"
    has_role gw-a primary && has_role gw-b secondary || fail "roles after round $round"
done
kill -TERM $load
wait $load || fail "the client saw an error or a wrong byte: $(cat "$work/load")"
[ "$(field "$(cat "$work/load")" reconnects)" -ge 10 ] || fail "the client was not sent away: $(cat "$work/load")"
echo "10 changes of the role: $(cat "$work/load")"
[ "$(grep -c "promoted vm vm-group" "$work/hooks")" -eq 10 ] || fail "hooks: $(cat "$work/hooks")"
[ "$(grep -c "demoted vm vm-group" "$work/hooks")" -eq 11 ] || fail "hooks: $(cat "$work/hooks")"
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

# --- by force, the other one gone ---
pair_kill gw-b
on gw-a pairrole failover vm >/dev/null 2>&1 && fail "a planned failover from a dead gateway"
on gw-a pairrole failover vm --force >/dev/null || fail "a forced failover"
nbdinfo "nbd+unix:///vm?socket=$work/gw-a/nbd.sock" >/dev/null 2>&1 || fail "after a forced failover nobody is served"

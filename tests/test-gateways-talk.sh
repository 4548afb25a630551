#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Two gateways with certificates of `sluice pki`, and a filter that talks to itself at the other: messages
# arrive whole and in order; certificates are renewed by a reload under load without a loss; after kill -9 of
# one they find each other again; a peer that is taken out of the configuration is let go; status shows it all.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
requires jq
make_pair "link: { heartbeat: 100ms, timeout: 2s }"
pair_disk one <<END
size: 1MiB
backing: { file: @HERE@/one.raw }
filters: [chat: {}]
END
for name in two three; do
    pair_disk $name <<END
size: 1MiB
group: vm
backing: { file: @HERE@/$name.raw }
filters: [chat: { of_group: $([ $name = two ] && echo true || echo false), peer: @PEER@ }]
END
    sed -i 's/@PEER@/gw-b/' "$work/gw-a/etc/disks.d/$name.yaml"
    sed -i 's/@PEER@/gw-a/' "$work/gw-b/etc/disks.d/$name.yaml"
done
told() {
    on "$1" chat told "$2" --json | jq -e ".$3"
}
is_told() {
    [ "$(told "$1" "$2" "$3")" = "$4" ]
}

pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection: $(on gw-a status --json | jq .peers)"
within 5 is_told gw-a one connected 1 || fail "the channel is not connected"
for disk in one two three; do
    on gw-a chat send $disk 2000 4096 >/dev/null || fail "gw-a cannot send"
    on gw-b chat send $disk 500 60000 >/dev/null || fail "gw-b cannot send"
    within 10 is_told gw-b $disk messages 2000 || fail "gw-b got $(told gw-b $disk messages) of 2000"
    within 10 is_told gw-a $disk messages 500 || fail "gw-a got $(told gw-a $disk messages) of 500"
    within 5 is_told gw-b $disk behind 0 || fail "gw-b is not told that it has caught up"
done
on gw-a status | grep -q "^gw-b .*connected" || fail "status does not show the peer: $(on gw-a status)"

# --- new certificates under load ---
(while [ ! -e "$work/enough" ]; do on gw-a chat send one 5000 2000 >>"$work/sent" || echo failed >>"$work/sent"; done) &
load=$!
renewed_to() {
    [ "$(on "$1" status --json | jq '.peers[0].renewals')" -ge "$2" ]
}
for round in 1 2 3; do
    issue_certificate gw-a
    on gw-a reload >/dev/null || fail "reload"
    within 10 renewed_to gw-b $((2 * round - 1)) || fail "gw-a's certificate was not renewed"
    issue_certificate gw-b
    on gw-b reload >/dev/null || fail "reload"
    within 10 renewed_to gw-a $((2 * round)) || fail "gw-b's certificate was not renewed"
done
on gw-a reload >/dev/null # nothing has changed: nothing moves
: >"$work/enough"
wait $load
! grep -q failed "$work/sent" || fail "a message could not be sent while certificates were renewed"
sent=$((2000 + 5000 * $(grep -c sent "$work/sent")))
within 10 is_told gw-b one messages $sent || fail "gw-b got $(told gw-b one messages) of $sent"
is_told gw-b one lost 0 && is_told gw-a one lost 0 || fail "the channel was lost by a renewal"
renewals=$(on gw-a status --json | jq '.peers[0].renewals')
[ "$renewals" -ge 6 ] || fail "$renewals renewals instead of 6"
echo "$sent messages through $renewals renewals of certificates, none lost"

# --- a broken certificate changes nothing ---
mv "$pki/gw-a.pem" "$work/good.pem"
echo nonsense >"$pki/gw-a.pem"
on gw-a reload >/dev/null
grep -q "the old certificates stay: cannot read the certificate" "$work/gw-a/log" || fail "no line about it"
is_connected gw-a || fail "a broken certificate ended the connection"
mv "$work/good.pem" "$pki/gw-a.pem"

# --- kill -9 ---
pair_kill gw-b
within 5 is_told gw-a one lost 1 || fail "gw-a does not know that gw-b is gone"
pair_serve gw-b
within 10 are_connected || fail "they did not find each other again"
within 5 is_told gw-a one connected 2 || fail "the channel is not connected again"
on gw-b chat send one 10 >/dev/null
within 5 is_told gw-a one messages 510 || fail "nothing arrives any more"

# --- out of the configuration and in again ---
cp "$work/gw-a/etc/gateway.yaml" "$work/with-peer"
sed -i 's/^peers:.*/peers: { gw-c: { address: "localhost:1" } }/' "$work/gw-a/etc/gateway.yaml"
on gw-a reload >/dev/null || fail "reload"
within 5 is_told gw-a one lost 2 || fail "the channel to a former peer was not lost"
within 5 grep -q "gw-b is none of the peers of gw-a" "$work/gw-a/log" || fail "gw-b is let in"
cp "$work/with-peer" "$work/gw-a/etc/gateway.yaml"
on gw-a reload >/dev/null || fail "reload"
within 10 are_connected || fail "they did not connect after the reload"
for name in gw-a gw-b; do
    for disk in one two three; do
        is_told $name $disk wrong 0 || fail "$name $disk: $(on $name chat told $disk)"
    done
done

# --- the end ---
pair_kill gw-b TERM || fail "gw-b did not stop cleanly"
within 5 grep -q "it says goodbye: the gateway stops" "$work/gw-a/log" || fail "gw-b did not say goodbye"
pair_kill gw-a TERM || fail "gw-a did not stop cleanly"

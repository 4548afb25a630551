#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice failover` on a pair with the replication filter: what is written through one gateway is read from the other,
# planned to and fro from either side, a group of two disks by its name, and by force when a gateway is dead; the side
# that does not serve refuses clients; hooks.d is run.  Prints how long each took.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
requires jq nbdcopy nbdinfo
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
for number in 1 2; do
    for gateway_name in gw-a gw-b; do
        other=gw-b
        [ $gateway_name = gw-a ] || other=gw-a
        cat >"$work/$gateway_name/etc/disks.d/vm-$number.yaml" <<END
size: 8MiB
group: vm
uuid: 1f000000-0000-4000-8000-00000000000$number
backing: { file: $work/$gateway_name/vm-$number.raw }
filters: [replication: { peer: $other, peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB } }]
END
    done
done
for name in gw-a gw-b; do
    mkdir "$work/$name/etc/hooks.d"
    printf '#!/bin/sh\necho "%s promoted $*" >>"%s"\n' $name "$work/hooks" >"$work/$name/etc/hooks.d/promoted"
    chmod +x "$work/$name/etc/hooks.d/promoted"
    pair_serve $name
done
within 10 are_connected || fail "no connection"
at() {
    echo "nbd+unix:///$2?socket=$work/$1/nbd.sock"
}
serves() {
    nbdinfo "$(at "$1" vm-1)" >/dev/null 2>&1 && nbdinfo "$(at "$1" vm-2)" >/dev/null 2>&1
}
serves gw-a && fail "a disk that nobody was made primary of is served"
on gw-a failover vm --to gw-a --force --yes >/dev/null 2>"$work/said" || fail "the first promotion: $(cat "$work/said")"
within 5 serves gw-a || fail "gw-a does not serve after its promotion"
write_and_move() { # FROM TO ASKED
    head -c 8388608 /dev/urandom >"$work/data"
    for number in 1 2; do
        nbdcopy --flush "$work/data" "$(at "$1" vm-$number)" || fail "cannot write through $1"
    done
    began=$(date +%s%N)
    within 15 try_failover "$3" "$2" || fail "failover to $2 asked at $3: $(cat "$work/said")"
    took=$((($(date +%s%N) - began) / 1000000))
    serves "$1" && fail "$1 still lets clients in"
    for number in 1 2; do
        nbdcopy "$(at "$2" vm-$number)" - | cmp - "$work/data" || fail "vm-$number differs on $2"
    done
    echo "vm (2 disks) from $1 to $2, asked at $3: $took ms"
}
try_failover() { # refused while the other side has not everything yet
    on "$1" failover vm --to "$2" --yes >"$work/out" 2>"$work/said"
}
write_and_move gw-a gw-b gw-a
write_and_move gw-b gw-a gw-a
write_and_move gw-a gw-b gw-b
pair_kill gw-b
on gw-a failover vm --to gw-a --yes >/dev/null 2>&1 && fail "a planned failover from a dead gateway"
on gw-a failover vm --force --to gw-a --yes >/dev/null 2>"$work/said" || fail "by force: $(cat "$work/said")"
for words in "by force: 2 disks, one instant; gw-b was lost [0-9]* s ago; the copy here has everything up to sequence [1-9]" \
    "may be lost: writes that were acknowledged after that (.* only alone), and what no flush covered if .* its power" "gw-b is NOT fenced: .* until it hears of epoch [1-9]"; do
    grep -q "$words" "$work/said" || fail "before a failover by force nothing says \"$words\": $(cat "$work/said")"
done
for number in 1 2; do
    nbdcopy "$(at gw-a vm-$number)" - | cmp - "$work/data" || fail "vm-$number differs after the forced failover"
done
grep -q "gw-b promoted vm-1 vm " "$work/hooks" || fail "hooks: $(cat "$work/hooks")"

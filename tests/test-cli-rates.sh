#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `disk show --rates` and `top` count what was really done, show trouble first, say null rather than a wrong
# number when counters began anew, and refuse bad arguments; `disk show --tasks` says who holds a request.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq qemu-io

make_config
truncate -s 64M "$work/a.raw" "$work/b.raw" "$work/c.raw"
disk a <<END
backing: { file: $work/a.raw }
END
disk b <<END
backing: { file: $work/b.raw }
END
disk held <<END
backing: { file: $work/c.raw }
filters:
  - forever: { op: write }
END
serve

# usage_error ARGUMENT...
usage_error() {
    sluice "$@" >"$work/out" 2>"$work/errors"
    status=$?
    [ $status -eq 3 ] || fail "sluice $*: exit $status, not 3"
    [ -s "$work/errors" ] && [ ! -s "$work/out" ] || fail "sluice $*: wrong stream"
}
for bad in 0 -1 x 1x "" 1.5; do
    usage_error top --count "$bad"
    usage_error disk show a --rates --count "$bad"
done
for bad in 0 1 10ms x -1s ""; do
    usage_error top --interval "$bad"
done
usage_error top --count
usage_error top a
usage_error disk show a --rates --tasks
usage_error disk show a --tasks --connect uri
usage_error disk show a --interval 1s
usage_error disk show
usage_error status --rates
sluice disk show nosuch --rates --count 1 >"$work/out" 2>"$work/errors"
[ $? -eq 1 ] || fail "rates of a disk that is not there: exit $?"
[ ! -s "$work/out" ] || fail "rates of a disk that is not there: prints"

# --- a load of a known size within the interval: exact counts
# The round begins with its first look: wait for that by the request count of the control side, then work.
rates_while() {
    "$sluice_program" disk show a --config "$config" --rates --interval 3s --json >"$work/rates" 2>"$work/errors" &
    shower=$!
    children="$children $shower"
    within 5 is_sleeping $shower || fail "it does not wait for its interval"
    "$@" >/dev/null || fail "$*"
    wait $shower || fail "rates: exit $?: $(cat "$work/errors")"
}
# In clock_nanosleep, hence between its two looks.
is_sleeping() {
    grep -qs nanosleep "/proc/$1/wchan" || [ "$(awk '{ print $1 }' "/proc/$1/syscall" 2>/dev/null)" = 230 ]
}
rates_while qemu-io -f raw "$(uri a)" -c "write 0 1M" -c "write 1M 1M" -c "read 0 512k" -c flush
jq -e '.schema_version == 1 and .name == "a" and .state == "ok" and .size_bytes == 67108864' "$work/rates" >/dev/null ||
    fail "rates: $(cat "$work/rates")"
jq -e '.rates.operations | .write.requests == 2 and .write.bytes == 2097152 and .read.bytes == 524288 and
    .write.errors == 0 and .trim.requests == 0' "$work/rates" >/dev/null || fail "rates: $(cat "$work/rates")"
jq -e '.rates | .interval_ns >= 3000000000 and
    ((.operations.write | .bytes_per_second) - 2097152e9 / .interval_ns | fabs) < 1' "$work/rates" >/dev/null ||
    fail "a second: $(cat "$work/rates")"
jq -e '[.. | numbers | . == floor] | all' "$work/rates" >/dev/null || fail "a number is no integer"

# --- rounds
[ "$(sluice disk show a --rates --interval 100ms --count 3 --json | jq -s length)" = 3 ] || fail "--count 3"
[ "$(sluice top --interval 100ms --count 2 --json | jq -s '[.[].disks | length] | add')" = 6 ] || fail "top --count 2"
sluice disk show a --rates --interval 100ms | grep -q '^  read .*0\.00' || fail "rates for people"
sluice top --interval 100ms --count 1 >"$work/top" || fail "top: exit $?"
grep -q '^gw-test: 3 disks, 0 in trouble' "$work/top" || fail "top's head: $(cat "$work/top")"

# --- a held request: tasks say who, how long; top shows the trouble first
mkfifo "$work/in"
"$top_builddir/tests/tools/nbd-window" "$(uri held)" 1 --full <"$work/in" >/dev/null 2>&1 &
children="$children $!"
exec 9>"$work/in"
is_held() {
    sluice disk show held --tasks --json 2>/dev/null | jq -e '.tasks | length == 1 and .[0].where == "filter"' >/dev/null
}
within 10 is_held || fail "the write is not among the tasks: $(sluice disk show held --tasks --json)"
sluice disk show held --tasks --json | jq -e '.schema_version == 1 and (.tasks[0] | .op == "write" and
    .offset >= 0 and .length_bytes > 0 and .filter == "forever" and .age_ns > 0 and .origin == "guest")' \
    >/dev/null || fail "tasks: $(sluice disk show held --tasks --json)"
sluice disk show held --tasks | grep -q 'write  *[0-9]*  *[0-9]*  *[0-9.]* s  *guest  *filter forever' ||
    fail "tasks for people: $(sluice disk show held --tasks)"
sluice disk show a --tasks | grep -q 'no requests in flight' || fail "no tasks: $(sluice disk show a --tasks)"

# --- a gateway that was restarted between two looks: null, not a negative rate
"$sluice_program" top --config "$config" --interval 4s --count 1 --json >"$work/rates" 2>"$work/errors" &
shower=$!
children="$children $shower"
within 5 is_sleeping $shower || fail "top does not wait"
stop KILL
serve
wait $shower || fail "top over a restart: exit $?: $(cat "$work/errors")"
jq -e '[.disks[].rates] == [null, null, null]' "$work/rates" >/dev/null || fail "rates over a restart: $(cat "$work/rates")"

# Not on a terminal, top ends with the gateway; what is printed must arrive.
stop
sluice top --interval 100ms >/dev/null 2>"$work/errors"
[ $? -eq 1 ] || fail "top without a gateway: exit $?"
"$sluice_program" version >/dev/full 2>"$work/errors"
[ $? -eq 1 ] || fail "a full disk on stdout: exit $?"
grep -q "cannot write the output" "$work/errors" || fail "a full disk: $(cat "$work/errors")"

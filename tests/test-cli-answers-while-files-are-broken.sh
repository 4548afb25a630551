#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The running gateway answers while the files on disk are broken: the command line takes the socket's path
# from gateway.yaml alone, from what is left of it when that is broken too, and never asks the gateway of
# another folder by mistake.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq

make_config
truncate -s 1M "$work/a.raw"
disk a <<END
backing: { file: $work/a.raw }
END
serve
cp "$config/gateway.yaml" "$work/good"

# answers WHAT [WARNING-PATTERN]
answers() {
    for verb in status metrics "disk list" "disk show" "watch --now"; do
        # shellcheck disable=SC2046,SC2086 # words
        sluice $verb $([ "$verb" = "disk show" ] && echo a) >"$work/out" 2>"$work/errors" ||
            fail "$1: sluice $verb exits with $?: $(cat "$work/errors")"
        [ -s "$work/out" ] || fail "$1: sluice $verb says nothing"
        if [ -n "${2:-}" ]; then
            grep -q "$2" "$work/errors" || fail "$1: sluice $verb warns: $(cat "$work/errors")"
        else
            [ ! -s "$work/errors" ] || fail "$1: sluice $verb says $(cat "$work/errors")"
        fi
    done
}

# --- the files of disks and policies do not matter
printf 'size: [[[\n' >"$config/disks.d/bad.yaml"
printf '\377\376' >"$config/disks.d/worse.yaml"
head -c 100000 /dev/urandom >"$config/policies.d/garbage.yaml"
answers "garbage in disks.d and policies.d"
sluice reload >"$work/out" 2>"$work/errors"
[ $? -eq 1 ] || fail "a reload of garbage exits with $?"
grep -q 'disks.d/bad.yaml:[0-9]*:[0-9]*:' "$work/errors" || fail "reload says $(cat "$work/errors")"
sluice check >/dev/null 2>&1
[ $? -eq 1 ] || fail "check accepts garbage"

# A broken disk's file can be removed by the verb.
rm "$config/disks.d/worse.yaml" "$config/policies.d/garbage.yaml"
sluice disk remove bad >/dev/null 2>"$work/errors" || fail "remove bad: $(cat "$work/errors")"
[ ! -e "$config/disks.d/bad.yaml" ] || fail "the file of bad is still there"

# --- gateway.yaml with other faults: its listen.control is read all the same
printf 'nonsense: 1\nmemory: much\n' >>"$config/gateway.yaml"
answers "unknown keys in gateway.yaml"

# --- gateway.yaml that is no YAML
(cat "$work/good" && printf 'tls: [\n') >"$config/gateway.yaml"
answers "an open bracket at the end" "gateway.yaml is broken"
(printf 'memory: "1GiB\n\n' && cat "$work/good") >"$config/gateway.yaml"
answers "an open quote at the start" "gateway.yaml is broken"
(printf '\tmemory: 1GiB\n' && cat "$work/good") >"$config/gateway.yaml"
answers "a tab at the start" "gateway.yaml:1:1:"
(head -n 2 "$work/good" && printf '<<<<<<< mine\n' && tail -n +3 "$work/good") >"$config/gateway.yaml"
answers "a conflict marker" "gateway.yaml is broken"
grep -v control "$work/good" >"$config/gateway.yaml"
printf '  control: "tcp:1"\n' >>"$config/gateway.yaml"
ln -s "$work/control.sock" "$work/state/control.sock"
answers "an address that is none" "gateway.yaml is broken"

# --- nothing left to go by: the default is tried, and says so
rm "$config/gateway.yaml"
sluice status >"$work/out" 2>"$work/errors"
status=$?
[ $status -eq 1 ] || fail "without gateway.yaml: exit $status"
grep -q "trying /var/lib/sluice/control.sock" "$work/errors" || fail "says $(cat "$work/errors")"
[ ! -s "$work/out" ] || fail "prints $(cat "$work/out")"

# --- a guess that leads to the gateway of another folder is not acted upon
mkdir -p "$work/other/disks.d"
(cat "$work/good" && printf 'tls: [\n') >"$work/other/gateway.yaml"
for verb in reload status "disk remove"; do
    # shellcheck disable=SC2046,SC2086
    "$sluice_program" $verb --config "$work/other" $([ "$verb" = "disk remove" ] && echo a) \
        >"$work/out" 2>"$work/errors"
    status=$?
    [ $status -eq 1 ] || fail "$verb in another folder: exit $status"
    [ ! -s "$work/out" ] || fail "$verb in another folder prints $(cat "$work/out")"
done
"$sluice_program" status --config "$work/other" 2>&1 | grep -q "serves $config; mend gateway.yaml" ||
    fail "does not say whose gateway it is"

# --- no such folder, no gateway
"$sluice_program" status --config "$work/nowhere" >/dev/null 2>"$work/errors"
[ $? -eq 1 ] || fail "no folder: exit $?"
grep -q "nowhere.*No such file" "$work/errors" || fail "no folder: $(cat "$work/errors")"
cp "$work/good" "$config/gateway.yaml"
stop
sluice status >/dev/null 2>"$work/errors"
[ $? -eq 1 ] || fail "no gateway: exit $?"
grep -q "start it with 'sluice serve'" "$work/errors" || fail "no gateway: $(cat "$work/errors")"

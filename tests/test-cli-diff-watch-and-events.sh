#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice diff` says what a reload would do, by its exit code and its output; `sluice watch` streams what
# happens while it happens; `sluice disk event` exits with 2 and the filter's sentence when one refuses.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq

make_config
policy() { # NAME FILTERS
    disk "$1" <<POLICY
size: 1MiB
backing: { file: $work/$1.raw }
filters: [$2]
POLICY
}
policy a ""
policy no "refuse: { event: snapshot, phase: prepare }"
serve

# run EXIT ARGS...: the command line, its output and its errors kept.
run() {
    wanted=$1
    shift
    sluice "$@" >"$work/out" 2>"$work/errors"
    status=$?
    [ $status -eq "$wanted" ] || fail "sluice $* exits with $status, not $wanted: $(cat "$work/out" "$work/errors")"
}
silent() { [ ! -s "$work/$1" ] || fail "$1 has: $(cat "$work/$1")"; }

# --- diff
run 0 diff
[ "$(cat "$work/out")" = "nothing to do" ] || fail "no change: $(cat "$work/out")"
silent errors
run 0 diff --json
jq -e '.schema_version == 1 and .actions == []' "$work/out" >/dev/null || fail "no change: $(cat "$work/out")"
policy a "passthru: {}"
run 0 diff
grep -qx 'a: attach passthru.*' "$work/out" || fail "a change: $(cat "$work/out")"
[ "$(wc -l <"$work/out")" -eq 1 ] || fail "one change is said to be: $(cat "$work/out")"
silent errors
run 0 diff --json
jq -e '[.actions[].disk] == ["a"]' "$work/out" >/dev/null || fail "a change: $(cat "$work/out")"
printf 'size: 1MiB\nbackin: { file: /x }\n' >"$config/disks.d/b.yaml"
run 1 diff
silent out
grep -q 'disks.d/b.yaml:2:1: .*backin' "$work/errors" || fail "a broken file: $(cat "$work/errors")"
rm "$config/disks.d/b.yaml"
policy a ""
run 3 diff a

# --- watch
"$sluice_program" watch --config "$config" --json >"$work/events" 2>"$work/watch.err" &
children=$!
seen() { jq -e -n --arg e "$1" --arg d "$2" '[inputs | select(.event == $e and .name == $d)] | length == 1' "$work/events" >/dev/null 2>&1; }
within 30 seen exists a || fail "watch does not say that a exists: $(cat "$work/events" "$work/watch.err")"
! seen create new || fail "new before it was added"
run 0 disk add new --file "$work/new.raw" --size 1MiB --json
jq -e --arg file "$config/disks.d/new.yaml" \
    '.schema_version == 1 and .disk == "new" and .file == $file and .reloaded' "$work/out" >/dev/null ||
    fail "disk add --json: $(cat "$work/out")"
run 0 check --effective new --json
jq -e --arg raw "$work/new.raw" '.effective.backing.file == $raw and
    (.origins["backing.file"] | test("disks.d/new.yaml:[0-9]+:[0-9]+$"))' "$work/out" >/dev/null ||
    fail "check --effective --json: $(cat "$work/out")"
run 0 disk resize new 2MiB --json
jq -e '.disk == "new" and .size_bytes == 2097152 and .reloaded' "$work/out" >/dev/null ||
    fail "disk resize --json: $(cat "$work/out")"
within 30 seen create new || fail "watch does not say that new was added: $(cat "$work/events")"
run 0 disk remove new --json
jq -e --arg aside "$config/disks.d/new.yaml.removed" '.disk == "new" and .put_aside == $aside and .reloaded and
    (.state_forgotten | not)' "$work/out" >/dev/null || fail "disk remove --json: $(cat "$work/out")"
within 30 seen destroy new || fail "watch does not say that new is gone: $(cat "$work/events")"
jq -n -e '[inputs | select(.name == "new") | .event] | (index("create") < index("destroy"))' "$work/events" >/dev/null ||
    fail "the order of events: $(cat "$work/events")"
kill -0 "$children" || fail "watch has ended: $(cat "$work/watch.err")"

# --- a disk whose state is forgotten has been closed before: nothing is written there any more
run 0 disk add gone --file "$work/gone.raw" --size 1MiB
run 0 disk remove gone --forget-state
[ ! -e "$work/state/disks/gone" ] || fail "the state of gone is not forgotten"
set -- "$work"/state/removed/gone.*
[ -e "$1/clean" ] || fail "gone was forgotten before it was closed"

# --- a command that is killed while it writes leaves no half of a file behind (its file may have no byte)
(ulimit -c 0 -f 0 && exec "$sluice_program" disk add half --file "$work/half.raw" --config "$config" 2>"$work/errors") &&
    fail "disk add was not killed"
[ ! -e "$config/disks.d/half.yaml" ] || fail "a file of $(wc -c <"$config/disks.d/half.yaml") bytes is left"
run 0 check

# --- a prepared event keeps a reload from what it would spoil, and nothing has to be taken back
policy a "passthru: {}"
run 0 disk event a snapshot --prepare
run 1 reload
grep -q 'a prepared snapshot waits for its commit or abort' "$work/errors" || fail "why not: $(cat "$work/errors")"
run 0 disk event a snapshot --commit
run 0 reload
! grep 'cannot take back' "$work/log" || fail "a step that was refused was to be taken back"
policy a ""
run 0 reload

# --- disk event
run 0 disk event a snapshot
run 0 disk event a snapshot --prepare
run 0 disk event a snapshot --abort
run 2 disk event no snapshot
grep -q 'I would rather not' "$work/errors" || fail "no sentence of the filter: $(cat "$work/errors")"
grep -q 'refuse' "$work/errors" || fail "which filter: $(cat "$work/errors")"
run 2 disk event no snapshot --prepare
run 0 disk event no start
run 2 disk event a snapshot --commit
run 1 disk event nobody snapshot
grep -q 'nobody' "$work/errors" || fail "which disk: $(cat "$work/errors")"
run 3 disk event a snapshot --prepare --commit
run 3 disk event a
stop

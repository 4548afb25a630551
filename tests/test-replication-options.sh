#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What a person may write wrong in `filters: [replication: ...]` is refused with the place and the reason; a state
# file that is damaged, or of another version, is refused with a sentence, and is left as it is.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires jq
make_pair
wrong=0
# refused OPTIONS SENTENCE: `sluice check` says so, with file and line.
refused() {
    replicated_disk vm 3f000000-0000-4000-8000-000000000001 8MiB "$1"
    "$sluice_program" check --config "$work/gw-a/etc" >"$work/said" 2>&1 && echo "accepted: $1" >>"$work/said"
    grep -qxF "disks.d/vm.yaml:4:$2" "$work/said" || {
        echo "{ $1 } is to be refused with ...:4:$2"
        cat "$work/said"
        wrong=$((wrong + 1))
    }
}
refused "mode: both," '32: filters[0].replication.mode: unknown value "both" (one of sync, async)'
refused "ack: written," '31: filters[0].replication.ack: unknown value "written" (one of received, journaled, applied)'
refused "on_peer_loss: wait," '40: filters[0].replication.on_peer_loss: unknown value "wait" (one of hold, degrade)'
refused "peer_timeout: soon," '40: filters[0].replication.peer_timeout: expected a duration (500ms, 5s, 2m), not "soon"'
refused "journal: { size: 1MiB }," '43: filters[0].replication.journal.size: 1MiB is less than 4MiB, the least'
refused "mod: sync," '26: filters[0].replication: unknown option "mod" (did you mean "mode"?)'

# --- files ---
replicated_disk vm 3f000000-0000-4000-8000-000000000001 8MiB "on_peer_loss: degrade, peer_wait: 0s,"
pair_serve gw-a
on gw-a replication promote vm --force >/dev/null || fail "it cannot be promoted"
pair_kill gw-a TERM
folder=$(dirname "$(find "$work/gw-a/state" -name evidence)")
# damaged FILE OFFSET BYTES SENTENCE [ALSO-AT]
damaged() {
    cp "$folder/$1" "$work/whole"
    # shellcheck disable=SC2059 # escapes are meant
    printf "$3" | dd of="$folder/$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
    # shellcheck disable=SC2059
    [ -z "${5:-}" ] || printf "$3" | dd of="$folder/$1" bs=1 seek="$5" conv=notrunc 2>/dev/null
    cp "$folder/$1" "$work/damaged"
    timeout 10 "$sluice_program" serve --config "$work/gw-a/etc" >"$work/said" 2>&1
    grep -qF "$4" "$work/said" || {
        echo "$1 damaged at $2 is to be refused with: $4"
        cat "$work/said"
        wrong=$((wrong + 1))
    }
    cmp "$work/damaged" "$folder/$1" || wrong=$((wrong + 1))
    cp "$work/whole" "$folder/$1"
}
damaged super 0 'garbage!' 'state file "super"'
damaged super 8 '\377' 'state file "super"'
damaged evidence 0 'garbage!' "log and bitmap" 4096
pair_serve gw-a
[ "$(told gw-a vm epoch)" -ge 1 ] || fail "what was made whole again is not taken"
[ $wrong -eq 0 ] || fail "$wrong are not refused as they should be"
echo "6 wrong options and 3 damaged files are refused, and nothing is changed"

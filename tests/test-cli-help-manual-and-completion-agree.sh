#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Every verb and option of `sluice help` stands in the manual page and is offered by completion, and the other
# way round; every option that the program takes is one that help knows.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires python3
mkdir -p "$config"
pod=$top_srcdir/docs/sluice.pod

compare() { python3 "$top_srcdir/tests/cli-words.py" "$sluice_program" "$@"; }

compare "$pod" "$top_srcdir"/gateway/cli/*.c || fail "help, manual and completion differ"

# The comparison sees a lost option, a lost verb, one too many, and an option that nobody is told of.
notices() { # PATTERN SOURCE...
    pattern=$1
    shift
    ! compare "$work/pod" "$@" >"$work/out" || fail "not noticed: $pattern"
    grep -q "$pattern" "$work/out" || fail "no \"$pattern\" in $(cat "$work/out")"
}
sed 's/B<--forget-state>/It/' "$pod" >"$work/pod"
notices 'option --forget-state of "disk remove" stands in help and not in the manual'
sed 's/^=head2 top$/=head2 bottom/' "$pod" >"$work/pod"
notices 'verb "top" stands in help and not in the manual'
notices 'verb "bottom" stands in the manual and not in help'
cp "$pod" "$work/pod"
echo 'cli_take_flag(cli, "--secret");' >"$work/source.c"
notices 'takes --secret' "$work/source.c"

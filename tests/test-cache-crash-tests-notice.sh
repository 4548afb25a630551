#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The crash tests would notice: with any one of the rules of docs/cache.md broken, R1 to R13 and twenty-four more that
# follow from them, the simulated crashes find a violation.
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}"
sed -n 's/^| R*\([0-9][0-9]*\) | \(.*\) |$/\1 \2/p' "$top_srcdir/docs/cache.md" |
    {
        status=0 rules=0
        while read -r rule text; do
            rules=$((rules + 1)) world=
            [ "$rule" = 17 ] && world=--rot
            case $rule in
            20 | 21 | 22 | 33 | 34 | 37) world=--faults ;;
            25 | 26 | 27 | 28 | 29) world=--ordered ;;
            30 | 31 | 32) world="--ordered --faults" ;;
            esac
            if answer=$("${top_builddir:-.}/tests/crash-cache/crash" --points 200000 $world --mutant "$rule" --until-red 2>/dev/null); then
                echo "rule $rule broken: found after $(echo "$answer" | sed 's/.*crash_points": \([0-9]*\).*/\1/') crash points: $text"
            else
                echo "rule $rule broken: nothing is found: $text: $answer"
                status=1
            fi
        done
        [ $rules = 37 ] || { echo "docs/cache.md has $rules rules, not 37"; status=1; }
        exit $status
    }

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The crash tests would notice: with any one of the rules R1 to R13, and three more that follow from
# them (docs/cache.md), broken, the simulated crashes find a violation.
status=0
for rule in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    if answer=$("${top_builddir:-.}/tests/crash-cache/crash" --points 20000 --mutant $rule --until-red 2>/dev/null); then
        echo "without rule $rule: found after $(echo "$answer" | sed 's/.*crash_points": \([0-9]*\).*/\1/') crash points"
    else
        echo "without rule $rule: nothing is found: $answer"
        status=1
    fi
done
exit $status

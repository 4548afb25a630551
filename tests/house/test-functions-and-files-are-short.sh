#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Functions: the median at most 10 lines, nine in ten below 40, none above 60; files below 800 lines.  Prints
# the figures.  A line with a brace alone opens and closes a function, as clang-format writes them.
. "$(dirname "$0")/functions.sh"

lengths() {
    awk 'FNR == 1 { start = 0 }
        /^\{$/ { start = FNR; next }
        /^\}/ && start { print FNR - start - 1, FILENAME ":" start; start = 0 }' "$@" | sort -n
}

code=$(sources '*.[ch]')
# shellcheck disable=SC2086 # names without blanks
lengths $code >"$work/lengths"
awk '{ length_of[NR] = $1 }
    END {
        median = length_of[int((NR + 1) / 2)]; ninth = length_of[int(NR * 0.9) + 1]
        printf "%d functions: median %d lines, 90th percentile %d, longest %d\n", NR, median, ninth, length_of[NR]
        exit !(NR > 500 && median <= 10 && ninth < 40)
    }' "$work/lengths"
awk '$1 > 60 { print $2 ": a function of " $1 " lines" }' "$work/lengths" >"$work/wrong"
# The public header is one concept, and its length is mostly words.
# shellcheck disable=SC2046,SC2086 # names without blanks
wc -l $code $(sources '*.sh' '*.py') |
    awk '$1 >= 800 && $2 != "total" && $2 != "filters/sluice-filter.h" { print $2 ": " $1 " lines" }' >>"$work/wrong"
verdict "$work/wrong"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The model test of the cache would notice: with one of these rules of docs/cache.md broken, it finds a wrong byte
# within SECONDS_EACH (60); most in the first seconds.
status=0
for rule in 1 7 8 9; do
    if answer=$("${top_builddir:-.}/tests/unit/test-cache-model" "${SECONDS_EACH:-60}" 1 $rule 2>&1); then
        echo "without rule $rule: nothing is found: $(echo "$answer" | tail -n 1)"
        status=1
    else
        echo "without rule $rule: $(echo "$answer" | grep -m 1 VIOLATION)"
        echo "$answer" | grep -q '"violations": [1-9]' || status=1
    fi
done
exit $status

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The simulator would notice: with any one of these rules of the replication filter broken (MUTANT(n) in
# filters/replication) it finds a violation within SEEDS (default 10000) seeds.
simulator=${top_builddir:-.}/tests/simulator/simulator
count=0 status=0
for rule in 1 2 3 4 6 7 9 11 13 14 15 16 17 40 41 42 43; do
    answer=$("$simulator" --seeds 1 "${SEEDS:-10000}" --steps 1000 --mutant $rule 2>&1)
    code=$?
    count=$((count + 1))
    if [ $code = 1 ] && echo "$answer" | grep -q '^VIOLATION'; then
        echo "without rule $rule: $(echo "$answer" | sed -n 's/^seed \([0-9]*\):.*/found at seed \1/p' | head -n 1)" \
            "($(echo "$answer" | sed -n 's/^VIOLATION: //p' | head -n 1))"
    else
        echo "without rule $rule: nothing is found, exit code $code: $(echo "$answer" | tail -n 1)"
        status=1
    fi
done
echo "$count broken rules"
exit $status

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# SEEDS (default 10000) histories of a replicated pair, each of STEPS (default 1000) steps with broken links, kills,
# power cuts, promotions and handovers, from SEED (default 1) on, in two processes: not one may lose what was
# promised, show what is no instant of the disk, or end with two images that differ.  A seed that fails is printed:
# tests/simulator/simulator --seeds N 1 --trace shows it again.  A fifth as many of a group of three disks, which is
# one instant (--group), of a disk that grows (--grow), as many of the asynchronous tiers (--spill), and of sides that
# serve what they have not applied yet (--backlog), of these with records beside the data too (--records, which every
# ninth seed has anyway).
set -eu
simulator=${top_builddir:-.}/tests/simulator/simulator
work=$(mktemp -d "${TMPDIR:-/tmp}/replication-simulator.XXXXXX")
trap 'rm -rf "$work"' EXIT
first=${SEED:-1} half=$((${SEEDS:-10000} / 2)) steps=${STEPS:-1000}
run() { # FIRST
    "$simulator" --seeds "$1" "$half" --steps "$steps" --coverage &&
        "$simulator" --group --seeds "$1" $((half / 5)) --steps "$steps" &&
        "$simulator" --grow --seeds "$1" $((half / 5)) --steps "$steps" &&
        "$simulator" --backlog --seeds "$1" $((half / 5)) --steps "$steps" --coverage &&
        "$simulator" --records --backlog --seeds "$1" $((half / 5)) --steps "$steps" --coverage &&
        "$simulator" --spill --seeds "$1" $((half / 5)) --steps $((2 * steps))
}
run "$first" >"$work/1" 2>&1 &
one=$!
run $((first + half)) >"$work/2" 2>&1 &
two=$!
status=0
wait $one || status=1
wait $two || status=1
cat "$work/1" "$work/2"

# What has to have happened for the run to mean anything.
for happened in 'streaming -> down' 'resyncing -> down' 'resyncing -> streaming' 'resyncing -> ahead' 'ahead -> asked' \
    'plan source' 'plan full source' 'plan they step down' 'plan split brain'; do
    for half_run in 1 2; do
        grep -q "$happened: [1-9]" "$work/$half_run" || { echo "never happened in half $half_run: $happened"; status=1; }
    done
done
for half_run in 1 2; do
    grep -Eq '^[1-9][0-9]* promoted with a backlog, [1-9][0-9]* killed with one, [1-9]' "$work/$half_run" ||
        { echo "nobody has served a backlog and died in half $half_run"; status=1; }
    grep -q '^[1-9][0-9]* promotions waited for records' "$work/$half_run" ||
        { echo "no promotion has waited for a record in half $half_run"; status=1; }
done
exit $status

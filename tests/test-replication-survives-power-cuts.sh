#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The power of gateways of a pair fails: test-replication-over-cache.sh, in which whoever is killed also loses any
# sectors of its files that it had not made durable.  First with disks on which nothing ever becomes durable: that has
# to be noticed, else nothing would be.
test=${top_srcdir:-.}/tests/test-replication-over-cache.sh
export POWER=cut
said=$(POWER_LIES=yes RUNS=8 FAULTS=both_are_killed GROUP=sync-journaled-hold-back-back "$test" 2>&1) && {
    echo "FAILED: a pair on disks that lie is found to be well: $said"
    exit 1
}
echo "disks that lie: $(echo "$said" | tail -n 1)"
exec "$test"

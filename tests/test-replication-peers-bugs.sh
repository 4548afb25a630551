#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What other replication systems were bitten by, each a history in the simulator (tests/simulator/peers-bugs.c), SEEDS
# (50) times; and with the rule broken that holds it, it goes wrong.
simulator=${top_builddir:-.}/tests/simulator/peers-bugs
status=0
"$simulator" --seeds "${SEEDS:-50}" || status=1

# RULE:HISTORY
for each in 55:stale_disk_reattached 54:settled_before_it_was_durable 41:dirty_bits_outrank_equal_lineages \
    50:verify_while_the_peer_drops 41:resync_source_becomes_target 41:second_failover_before_the_failback_ends \
    2:last_common_epoch_pruned 1:epoch_created_and_never_received 9:both_crash_and_only_one_had_flushed \
    73:epoch_received_and_never_acknowledged 8:crash_between_acknowledgement_and_bitmap_clear; do
    if "$simulator" --seeds 500 --mutant "${each%%:*}" "${each#*:}" | grep -q "^VIOLATION: ${each#*:}"; then
        echo "${each#*:} goes wrong without rule ${each%%:*}"
    else
        echo "${each#*:}: not noticed without rule ${each%%:*}"
        status=1
    fi
done
exit $status

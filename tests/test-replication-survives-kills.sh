#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Two gateways and three disks between them, sync with hold, sync with degrade, async, each under a writer that
# stamps what it writes.  RUNS (10) faults by SEED (1): kill -9 of either, of both, of the link by SIGSTOP, of the
# peer and then of the lone primary; promotion and planned handover.  Each time: sync has lost no acknowledged
# write, but what a lone primary took with it; what was promoted is a prefix of the history; both images are the
# same in the end, with no hand laid on but by the verbs of the manual.  A failing SEED can be given again; FAULTS
# are those to choose from.
. "${top_srcdir:-.}/tests/functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
. "$top_srcdir/tests/replication-fault-functions.sh"
requires jq
disks_hold=held disks_degrade=alone disks_async=async
blocks=2048
make_pair "link: { heartbeat: 100ms, timeout: 800ms }"
common="peer_timeout: 300ms, peer_wait: 1s, journal: { size: 16MiB },"
replicated_disk held 1f000000-0000-4000-8000-000000000001 8MiB "on_peer_loss: hold, $common"
replicated_disk alone 1f000000-0000-4000-8000-000000000002 8MiB "on_peer_loss: degrade, $common"
replicated_disk async 1f000000-0000-4000-8000-000000000003 8MiB "mode: async, $common"
make_states
run_faults

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# As test-cache-crash-points.sh (POINTS, default 6000, from SEED on), with `ordered`: after each crash the backing alone,
# without the SSD, is an earlier state of the disk (P2); and half as many with an SSD that fails.
crash=${top_builddir:-.}/tests/crash-cache/crash
"$crash" --ordered --points "${POINTS:-6000}" --seed "${SEED:-1}" &&
    "$crash" --ordered --faults --points $((${POINTS:-6000} / 2)) --seed "${SEED:-1}"

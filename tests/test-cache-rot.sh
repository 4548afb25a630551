#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Data blocks on the SSD change by themselves, in a simulated world (POINTS, default 3000, from SEED on): what is
# read is what was written; a read fails only where the log called the damaged block dirty.
exec "${top_builddir:-.}/tests/crash-cache/crash" --rot --points "${POINTS:-3000}" --seed "${SEED:-1}"

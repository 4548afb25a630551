#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The SSD of the cache fails, its writes, its reads or both, and comes back with the next start (POINTS, default
# 4000, from SEED on): all goes on but for what is on it alone and cannot be read, no request waits for ever, what
# failed is no wrong byte later, what was acknowledged is there again, and health says how much is on the tier alone.
exec "${top_builddir:-.}/tests/crash-cache/crash" --faults --points "${POINTS:-4000}" --seed "${SEED:-1}"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# POINTS (default 20000) simulated crashes of the cache, by kill -9 and by power cut, from SEED
# (default 1) on; not one may lose what was acknowledged (P0) or flushed (P1), or show stale data.
exec "${top_builddir:-.}/tests/crash-cache/crash" --points "${POINTS:-20000}" --seed "${SEED:-1}"

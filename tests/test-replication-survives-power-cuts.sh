#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The power of gateways of a pair fails: test-replication-over-cache.sh, in which whoever is killed also loses any
# sectors of its files that it had not made durable.
POWER=cut exec "${top_srcdir:-.}/tests/test-replication-over-cache.sh"

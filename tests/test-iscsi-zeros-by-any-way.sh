#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What is trimmed or zeroed reads as zeros, and its neighbours stay, whatever the target can: WRITE SAME
# with or without UNMAP, UNMAP of whole granules only, or neither, whether it admits that or not.
. "${top_srcdir:?}/tests/backing-functions.sh"
need python3
fake_iscsi

zeros() {
    start_fake none 0 "$@"
    expect ok write 0 131072 1
    expect ok "${way:-trim}" 1536 100864
    expect ok read 1536 100864 0
    expect ok read 0 1536 1
    expect ok read 102400 28672 1
    expect ok flush
    stop_fake "$*"
}
zeros ws lbpws
zeros ws lbpws unmap
zeros ws unmap
zeros unmap
zeros lies
way=zero zeros lies
way=zero zeros ws

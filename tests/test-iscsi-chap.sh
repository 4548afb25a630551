#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# CHAP: the right secret opens the LUN and reopens it after the target was restarted; none or a wrong
# one does not, and no secret is ever logged.
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"

tgt_accounts() {
    tgt --op new --mode account --user alice --password open-sesame-42
    tgt --op bind --mode account --tid $tid --user alice
}
truncate -s 4M "$dir/lun"
start_tgtd
uri=iscsi://$portal/$iqn/1

drive kind=iscsi uri="$uri"
expect_open "error: driven: $uri: *log in*"
drive kind=iscsi uri="$uri" user=alice secret=shut-sesame-42
expect_open "error: driven: $uri: *log in*"
drive kind=iscsi uri="$uri" user=alice secret=open-sesame-42 initiator=iqn.2024-01.test:gw
expect_open ok
expect ok write 0 4096 1
kill_server tgtd
start_tgtd
expect ok read 0 4096 1
expect "* reconnects=1 *" status
quit

# In the URL it works too, and stays out of every message.
drive kind=iscsi uri="iscsi://alice%open-sesame-42@$portal/$iqn/1"
expect_open ok
expect "ok connected=1 * connected to $uri" status
quit
grep -l sesame "$dir/driver.log" && fail "the secret was logged"
exit 0

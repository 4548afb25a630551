#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# libiscsi's conformance suites, over a matrix of disks and sessions: sectors of 512 bytes, 512 on 4096 and
# 4096, thin and thick, read-only, CHAP one way and both, header digests, IPv6, and an erasure that takes
# its time.  Two sessions each.  Every suite has a minute; none may fail, and what is skipped in every row
# is named with its reason in tests/iscsi-conformance.expected.
#
# Where the tool asks for what the standard forbids, it fails as it is; then it runs with its fault mended
# (tests/tools/mended-conformance.c), and must pass.
#
#     KEEP=FILE   the results are left there, for the table of docs/iscsi.md
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
PATH=$PATH:/usr/sbin:/sbin
requires iscsi-test-cu nbdkit
make_iscsi_config
secret a.chap "user:secret-of-the-host"
secret m.chap "gateway:secret-of-the-gateway"
results=$work/results
limit=60
export MENDED=$top_builddir/tests/tools/mended-conformance.so

# lun NAME EXPORT-KEYS [BACKING [LINE...]]
lun() {
    local name=$1 keys=$2 backing=${3:-file: $work/$1.raw}
    shift 2
    [ $# -eq 0 ] || shift
    {
        echo "size: 64MiB"
        echo "backing: { $backing }"
        echo "export: { iscsi: { target: \"$name\", erase: true${keys:+, $keys} } }"
        printf '%s\n' "$@"
    } | disk "$name"
}
truncate -s 64M "$work/thick.raw" "$work/read-only.raw"
for name in 512e digest ipv6; do lun $name ""; done
lun 512 "sectors: 512"
lun 4kn "sectors: 4Kn"
# Without structured replies a server tells no extents: nothing can be said to be unmapped.
nbdkit -f --no-sr -U "$work/thick.sock" file "$work/thick.raw" &
server=$!
children=$server
lun thick "" "nbd: \"nbd+unix:///?socket=$work/thick.sock\""
sed -i '/^size/d' "$config/disks.d/thick.yaml"
lun read-only "" "" "read_only: true"
lun chap "chap: a.chap"
lun mutual "chap: a.chap, chap_mutual: m.chap"
lun slow "" "" "filters: [delay: { op: write, time: 150ms, declared: true }]"
has_ipv6=
if grep -qs "^0*1 " /proc/net/if_inet6; then
    has_ipv6=1
    port6=$(free_port)
    sed -i "s|iscsi: \[\"$portal\"\]|iscsi: [\"$portal\", \"[::1]:$port6\"]|" "$config/gateway.yaml"
fi
serve

conformance() { PYTHONDONTWRITEBYTECODE=1 $python "$top_srcdir/tests/iscsi-conformance.py" "$@"; }
# row NAME URL [FILTER...]
row() {
    local name=$1 url=$2
    shift 2
    conformance run "$name" "$results.$name" $limit ${@:---not Sanitize.Reset} -- -d -S "$url" "$url" || return
    echo "row $name: $(wc -l <"$results.$name") tests, up to $SECONDS s"
}
# A disk that cannot be written takes those that do not need to.
reading="--only Inquiry.* Mandatory.* ModeSense6.* Read[16]* ReadCapacity* ReadDefectData* ReadOnly.* \
    ReportSupportedOpcodes.* TestUnitReady.* Prefetch* iSCSIResiduals.Read* Sanitize.Readonly"
with_secret="iscsi://user%secret-of-the-host@$portal/$prefix"
target="target_user=gateway&target_password=secret-of-the-gateway"

# Side by side: much of what the suites do is to wait.
set -f
group() {
    "$@" >"$work/$1.log" 2>&1 &
    children="$children $!"
    pids="$pids $!"
    groups="$groups $1"
}
disks() { row 512e "$(url 512e)" && row thick "$(url thick)"; }
sectors() { row 512 "$(url 512)" && row 4kn "$(url 4kn)"; }
access() { row read-only "$(url read-only)" $reading && row chap "$with_secret:chap/0"; }
sessions() { row mutual "$with_secret:mutual/0?$target" && row digest "$(url digest)?header_digest=crc32c"; }
ipv6() { row ipv6 "iscsi://[::1]:$port6/$prefix:ipv6/0"; }
# The tool looks every minute whether the erasure is over, and sleeps so soundly meanwhile that its session
# is lost for want of answers to pings, for ever; here it looks every second.
erasure() {
    LD_PRELOAD=$top_builddir/tests/tools/short-sleep.so \
        conformance run slow "$results.slow" $limit --only Sanitize.Reset -- -d -S "$(url slow)"
}
pids='' groups=''
group erasure
group disks
group sectors
group access
group sessions
[ -z "$has_ipv6" ] || group ipv6
for pid in $pids; do wait "$pid" || fail "a row did not run: $(cd "$work" && tail -n 20 *.log)"; done
children=$server
for name in $groups; do cat "$work/$name.log"; done
set +f
[ -z "${KEEP:-}" ] || cat "$results".* >"$KEEP"
conformance judge "$top_srcdir/tests/iscsi-conformance.expected" "$results".* || fail "see above"
stop TERM
echo "$SECONDS s"

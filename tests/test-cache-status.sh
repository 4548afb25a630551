#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The age of what the backing lacks: it grows while nothing is destaged, the status and the metrics say it, and when a
# part has gone to the backing the age of the rest is not forgotten.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq
make_config
with_soft_mark() {
    disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 64KiB, ssd: { path: $work/tier, size: 8MiB }, destage: { after: 1h }, dirty: { soft: $1, hard: 95 } }
END
}
status() {
    sluice cache status d --json | jq -e ".$1"
}
metric() {
    sluice metrics | sed -n 's/^sluice_cache_oldest_dirty[^ ]* //p'
}
is_old() {
    [ "$(status oldest_dirty_seconds)" -ge 3 ] && [ "$(metric)" -ge 3 ]
}
is_partly_destaged() {
    [ "$(status dirty_bytes)" -lt $((3 << 20)) ]
}
with_soft_mark 90
serve
[ "$(status oldest_dirty_seconds)" = 0 ] || fail "old with nothing dirty"
qemu-io -f raw "$(uri d)" -c "write -P 1 0 2M" -c "write -P 2 2M 1M" -c flush >/dev/null || fail "qemu-io"
[ "$(status dirty_bytes)" = $((3 << 20)) ] || fail "something was destaged at once"
within 30 is_old || fail "the age does not grow: $(status oldest_dirty_seconds) s, in the metrics $(metric)"
with_soft_mark 40 # destaged down to half of it
sluice reload >/dev/null || fail "reload"
within 30 is_partly_destaged || fail "nothing is destaged"
left=$(status dirty_bytes) age=$(status oldest_dirty_seconds)
echo "$left bytes left, the oldest for $age s"
[ "$left" -gt 0 ] || fail "all of it was destaged; this test shows nothing"
[ "$age" -ge 3 ] || fail "the rest is said to be $age s old"
sluice cache status d | grep -q "^oldest  *[0-9]* s$" || fail "status does not say it to people"
sluice cache flush d || fail "flush"
[ "$(status oldest_dirty_seconds)" = 0 ] || fail "old with nothing dirty"
is_young_again() { [ "$(metric)" = 0 ]; }
within 10 is_young_again || fail "the metrics still say $(metric)"
stop TERM

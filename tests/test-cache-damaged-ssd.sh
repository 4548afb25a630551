#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Blocks of a tier are damaged under a running gateway.  A clean one is read from the backing, and counted; one that
# the backing lacks fails to be read, before and after kill -9, and flushes fail, while the blocks beside it go to the
# backing; written anew it is there again.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq
dump=$top_builddir/filters/cache/sluice-cache-dump
make_config
disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 64KiB, ssd: { path: $work/tier, size: 4MiB }, destage: { after: 1h } }
END
holds() {
    qemu-io -f raw "$(uri d)" -c "read -P $1 $2 $3" >"$work/out" 2>&1 && ! grep -q "verification failed" "$work/out"
}
damage() {
    slot=$("$dump" "$work/tier" | sed -n "s/^block $1 slot \([0-9]*\) $2.*/\1/p")
    [ -n "$slot" ] || fail "block $1 is not $2 on the tier: $("$dump" "$work/tier" | grep "^block $1 ")"
    printf rotten | dd of="$work/tier" bs=1 seek=$((slot * 4096 + 99)) conv=notrunc 2>/dev/null
}
serve
qemu-io -f raw "$(uri d)" -c "write -P 1 0 64k" -c flush >/dev/null || fail "qemu-io"
sluice cache flush d || fail "flush"
qemu-io -f raw "$(uri d)" -c "write -P 2 1M 64k" -c flush -c "write -P 3 2M 4k" -c flush >/dev/null || fail "qemu-io"
damage 3 "\(dirty\|clean\)" # the tier may not say yet that it has been destaged
holds 1 0 64k || fail "a damaged clean block was not read from the backing: $(cat "$work/out")"
echo "clean: read from the backing"
holds 1 0 64k || fail "the second time it was not: $(cat "$work/out")"
damage 259 dirty
stays_unreadable() {
    holds 2 1036k 4k && fail "$1: a damaged block was served"
    grep -q "Input/output error" "$work/out" || fail "$1: said: $(cat "$work/out")"
    holds 2 1M 12k || fail "$1: a block beside it cannot be read: $(cat "$work/out")"
    grep -q "block 259 of the disk is damaged" "$work/log" || fail "$1: the log does not name the block"
    echo "$1: not served, others are"
}
stays_unreadable "dirty"
stop KILL
serve
stays_unreadable "after kill -9"
"$dump" "$work/tier" | grep -q "^block 259 .* dirty damaged" || fail "the dump does not say so"
said=$(sluice cache flush d 2>&1) && fail "the cache says that it has been emptied"
echo "$said" | grep -q "1 blocks on the tier are damaged, the first is block 259 " || fail "flush says: $said"
qemu-io -f raw -c "read -P 2 1M 12k" -c "read -P 2 1040k 48k" -c "read -P 3 2M 4k" "$work/d.raw" >"$work/out" 2>&1
grep -q "verification failed" "$work/out" && fail "the blocks beside it are not in the backing: $(cat "$work/out")"
failed_flushes() {
    grep -c "a flush of .* failed: Input/output error" "$work/log"
}
before=$(failed_flushes)
qemu-io -f raw "$(uri d)" -c flush >"$work/out" 2>&1
[ "$(failed_flushes)" -gt "$before" ] || fail "a flush does not fail"
sluice status | grep -q "are damaged, the first is block 259" || fail "health does not say so: $(sluice status)"
echo "destaged: all but the damaged block; flushes fail, health says why"
qemu-io -f raw "$(uri d)" -c "write -P 4 1036k 4k" >"$work/out" 2>&1 || fail "it cannot be written anew"
holds 4 1036k 4k || fail "written anew it is not there: $(cat "$work/out")"
sluice cache flush d || fail "and does not reach the backing"
cmp -n 4096 -i 1060864:0 "$work/d.raw" - <<END || fail "the backing has something else"
$(head -c 4096 /dev/zero | tr '\0' '\4')
END
before=$(failed_flushes)
qemu-io -f raw "$(uri d)" -c flush
[ "$(failed_flushes)" = "$before" ] || fail "flushes go on failing"
sluice status | grep -q "are damaged" && fail "health still says so: $(sluice status)"

# Given up, knowingly, a block is what the backing has of it, and stays so.
qemu-io -f raw "$(uri d)" -c "write -P 5 1036k 8k" -c flush >/dev/null || fail "qemu-io"
damage 259 dirty
holds 5 1036k 4k && fail "a damaged block was served"
is_known_lost() { [ "$(sluice cache status d --json | jq .lost_blocks)" = 1 ]; }
sluice cache flush d >/dev/null 2>&1 && fail "the cache says that it has been emptied"
within 20 is_known_lost || fail "the status does not say what is lost"
sluice cache lost d | grep -q "^blocks 259 to 259, bytes 1060864 to 1064959$" || fail "lost: $(sluice cache lost d)"
said=$(sluice cache give-up d 2>&1) && fail "given up without a number"
echo "$said" | grep -q "1 blocks would be given up.*sluice cache give-up d 1$" || fail "give-up says: $said"
sluice cache give-up d 2 2>/dev/null && fail "given up with a wrong number"
sluice cache give-up d 1 | grep -q "^given up; 0 blocks are still lost" || fail "it cannot be given up"
before=$(failed_flushes)
qemu-io -f raw "$(uri d)" -c flush
[ "$(failed_flushes)" = "$before" ] || fail "flushes go on failing"
holds 4 1036k 4k || fail "given up, it is not what the backing has"
stop KILL
serve
holds 4 1036k 4k || fail "given up, it comes back"
holds 5 1040k 4k || fail "the block beside it is gone"
sluice cache give-up d 1 2>/dev/null && fail "there is nothing to give up any more"
echo "given up: as in the backing, also after kill -9"
stop TERM

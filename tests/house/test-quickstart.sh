#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# ./quickstart shows a disk, and a slow one with a cache, and stops with --once; a second one beside it does too.  The snippets that it prints
# work when pasted: QEMU starts from its own, nbdinfo and qemu-io reach the URI, nbd-client takes its line.
# A pair of gateways fails over and back.  Only quickstart.d changes.
. "${top_srcdir:-.}/tests/functions.sh"
requires qemu-io nbdinfo
[ -w "$top_srcdir" ] || { echo "quickstart writes into the source tree, which is read-only here"; exit 77; }
[ -d "$top_srcdir/.git" ] || { echo "runs in a work tree only: a tarball's build must not change its sources"; exit 77; }
# Built as ./check builds, but for the prefix: the compiler's cache has all but one file by then.
export QUICKSTART_CONFIGURE=--enable-werror
unset MAKEFLAGS MAKELEVEL SLUICE_PLUGIN SLUICE_FILTER_PATH DESTDIR

outside() {
    (cd "$top_srcdir" && git -c safe.directory='*' status --porcelain --ignored | grep -vE 'quickstart\.d|build|autom4te|aclocal|m4/|configure|Makefile\.in')
    find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'sluice-quickstart*'
}
outside >"$work/before"
(cd "$top_srcdir" && exec env NO_COLOR=1 ./quickstart) >"$work/running" 2>&1 &
running=$!
children=$running
goes_on() { grep -q 'The gateway goes on' "$work/running" || ! kill -0 $running; }
within 600 goes_on
grep -q 'The gateway goes on' "$work/running" || { cat "$work/running"; fail "the quickstart did not come up"; }
(cd "$top_srcdir" && NO_COLOR=1 ./quickstart --once) >"$work/once" 2>&1 || { cat "$work/once"; fail "not beside a running one"; }

# What is below a heading, up to the next.
below() {
    awk -v heading="$1" '/^== / { inside = index($0, heading) > 0; next } inside && !/^#/ && NF' "$work/running"
}
below "without a cache and with one" >"$work/slow"
for what in 'writes, each flushed' 'reads of the same'; do
    grep -qE "^100 $what: +[0-9.]+ s without the cache, [0-9.]+ s with it" "$work/slow" || fail "the slow storage: $(cat "$work/slow")"
done
uri=$(sed -n 's/^== The gateway goes on at \([^ ]*\).*/\1/p' "$work/running")
nbdinfo --size "$uri" | grep -qx 268435456 || fail "nbdinfo $uri"
qemu-io -f raw -c 'read -P 0x5a 1M 512k' "$uri" | grep -q '524288/524288' || fail "qemu-io $uri"
below "mount it with libvirt" >"$work/disk.xml"
python3 -c 'import sys, xml.etree.ElementTree as x; d = x.parse(sys.argv[1]).getroot(); assert d.find("source/reconnect") is not None' \
    "$work/disk.xml" || fail "the libvirt snippet"
below "mount it with nbd-client" | grep -qE '^nbd-client [^ ]+ [0-9]+ /dev/nbd0 .*-persist' || fail "the nbd-client snippet"
if command -v qemu-system-x86_64 >/dev/null; then
    arguments=$(below "mount it with qemu" | sed 's/\\$//' | tr '\n' ' ')
    # shellcheck disable=SC2086 # pasted as words
    printf '{"execute":"qmp_capabilities"}\n{"execute":"query-named-block-nodes"}\n{"execute":"quit"}\n' |
        timeout 120 qemu-system-x86_64 -machine q35,accel=tcg -display none -S -nodefaults -qmp stdio $arguments >"$work/qmp" ||
        fail "qemu-system-x86_64 $arguments"
    grep -q '"virtual-size": 268435456' "$work/qmp" || fail "QEMU does not see the disk"
fi
# The pair: read through each gateway what was written through the other.
for shown in running once; do
    [ "$(grep -cx 'vm1 is served by gw-[ab]' "$work/$shown")" -eq 2 ] || fail "no two failovers: $(cat "$work/$shown")"
    [ "$(grep -c '^read 1048576/1048576 bytes at offset \(3145728\|5242880\)' "$work/$shown")" -eq 3 ] || fail "not read back: $(cat "$work/$shown")"
done
kill -TERM $running
wait $running || fail "the quickstart ended with $?"
children=
outside >"$work/after"
diff "$work/before" "$work/after" || fail "it wrote outside quickstart.d"
find "$top_srcdir/quickstart.d" -maxdepth 1 -name 'run.*' | grep -q . && fail "it left its run behind"
exit 0

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The README's first disk works as it is written, and every command in its sh blocks is run here or by the
# test that is named here for it.
. "${top_srcdir:-.}/tests/functions.sh"
readme=$top_srcdir/README.md

# Folders of this test in the place of the system's.
ours() {
    sed "s,/etc/sluice,$config,g; s,/var/lib/sluice,$work/state,g; s,/run/sluice,$work,g; s,/srv,$work,g; s,127.0.0.1:10809,127.0.0.1:$port,g"
}
# block N: the N-th yaml block.
block() {
    awk -v want="$1" '/^```yaml$/ { n++; on = n == want; next } /^```$/ { on = 0 } on' "$readme" | ours
}
port=$(free_port)
mkdir -p "$config/disks.d"
block 1 >"$config/gateway.yaml"
block 2 >"$config/disks.d/vm1.yaml"
grep -q "^gateway:" "$config/gateway.yaml" && grep -q "^backing:" "$config/disks.d/vm1.yaml" || fail "the README's files are not found"

awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$readme" | sed 's/ *#.*//; /^$/d' >"$work/commands"
[ "$(wc -l <"$work/commands")" -ge 12 ] || fail "only $(wc -l <"$work/commands") commands in the README"

# elsewhere TEST: the command is run by that test.
elsewhere() {
    [ -f "$top_srcdir/$1" ] || fail "there is no $1"
}
run() {
    echo "$*"
    "$sluice_program" "$@" --config "$config" >"$work/out" 2>&1 || fail "sluice $*: $(cat "$work/out")"
}
while IFS= read -r command; do
    case $command in
    ./quickstart) elsewhere tests/house/test-quickstart.sh ;;
    ./check) elsewhere .ci/run ;;
    "autoreconf -fi" | "./configure --prefix=/usr/local" | "make && make install")
        elsewhere tests/house/test-an-installation-can-be-moved.sh ;;
    "sluice serve") serve ;;
    "sluice pki "*)
        # shellcheck disable=SC2046 # words
        set -- $(echo "$command" | ours)
        shift
        "$sluice_program" "$@" >"$work/out" 2>&1 || fail "$command: $(cat "$work/out")" ;;
    "sluice filter "* | "cd canary" | "make && make check" | "make install") elsewhere tests/test-filter-author.sh ;;
    "sluice "*)
        # shellcheck disable=SC2086 # words
        run ${command#sluice } ;;
    *) fail "no test runs the README's command: $command" ;;
    esac
done <"$work/commands"
grep -q . "$work/out" || fail "the last command said nothing"
qemu-img info "nbd://127.0.0.1:$port/vm1" >"$work/out" 2>&1 || fail "the disk cannot be mounted: $(cat "$work/out")"
grep -q "virtual size: 20 GiB" "$work/out" || fail "another size: $(cat "$work/out")"
stop

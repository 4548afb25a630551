#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What the author of a filter types, the README's lines, from an installation that was moved after it was
# made: a filter is made, built, checked, tried with a real client, installed, listed and shown.  A library
# that is no filter is passed over; one that wants to be a filter and is broken is named with its reason.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq make cc pkg-config qemu-io nbdinfo

# --- an installation, moved: its program has to find its own parts
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -s -C "$top_builddir" install DESTDIR="$work/root" >"$work/log" 2>&1 ||
    fail "make install"
prefix=$(sed -n 's/^prefix = //p' "$top_builddir/Makefile")
mv "$work/root$prefix" "$work/moved" || fail "nothing was installed in $prefix"
unset SLUICE_PLUGIN SLUICE_FILTER_PATH SLUICE_KIT
PATH=$work/moved/bin:$PATH
PKG_CONFIG_PATH=$work/moved/lib/pkgconfig
export PATH PKG_CONFIG_PATH
unset MAKEFLAGS MAKELEVEL MFLAGS
unset -f sluice
[ "$(command -v sluice)" = "$work/moved/bin/sluice" ] || fail "another sluice: $(command -v sluice)"
[ "$(pkg-config --variable=filterdir sluice-filter)" -ef "$work/moved/lib/sluice/filters" ] ||
    fail "pkg-config points to $(pkg-config --variable=filterdir sluice-filter)"
cd "$work" || exit 1

# The README's section on filters: its lines for the shell, without comments; its C stands in the canary.
awk '/^## / { is_ours = /Write a filter/ } /^ *```/ { kind = kind ? "" : $1; next }
    is_ours && kind ~ /sh$/ { sub(/ +#.*/, ""); print >shell }
    is_ours && kind ~ /c$/ { sub(/^ +/, ""); print >c }' \
    shell="$work/readme.sh" c="$work/readme.c" "$top_srcdir/README.md"
[ -s "$work/readme.sh" ] && [ -s "$work/readme.c" ] || fail "the README has no lines for us"
sed 's/^ *//' "$top_srcdir/tests/canary/canary.c" >"$work/canary.lines"
while IFS= read -r line; do
    grep -qxF -- "$line" "$work/canary.lines" || fail "the README shows what tests/canary does not have: $line"
done <"$work/readme.c"
# readme_line NUMBER WORDS: that line, which has to begin with the words; $line is it.
readme_line() {
    line=$(sed -n "$1p" "$work/readme.sh")
    case $line in
    "$2"*) ;;
    *) fail "line $1 of the README is not \"$2...\" but \"$line\"" ;;
    esac
}
[ "$(wc -l <"$work/readme.sh")" -eq 7 ] || fail "the README has lines that are not tried here"

# refused SENTENCE COMMAND...: ends with an error and says so.
refused() {
    sentence=$1
    shift
    "$@" >"$work/out" 2>"$work/err" && fail "$* succeeded"
    grep -qF -- "$sentence" "$work/err" "$work/out" || fail "$* said: $(cat "$work/err" "$work/out")"
}

# --- new
refused 'there is no class magic; one of io-control, inspection' sluice filter new canary --class magic
refused '--class is missing' sluice filter new canary
refused '"Canary" is no name for a filter' sluice filter new Canary --class inspection
refused '"../up" is no name for a filter' sluice filter new ../up --class inspection
refused '"disk" is a word of the sluice command itself' sluice filter new disk --class inspection
[ ! -e canary ] || fail "a refused name left a folder"
readme_line 1 'sluice filter new canary --class inspection'
eval "$line" >"$work/out" || fail "filter new"
grep -q 'cd canary && make && make check' "$work/out" || fail "no word of what comes next"
for file in canary.c Makefile test.sh canary.yaml sluice-filter-canary.pod; do
    [ -s canary/$file ] || fail "$file was not made"
done
refused 'cannot make the folder canary: File exists' sluice filter new canary --class inspection

# --- make, make check: without a warning, in all classes
readme_line 2 'cd canary'
eval "$line"
readme_line 3 'make && make check'
CFLAGS='-O2 -Werror'
export CFLAGS
eval "$line" >"$work/check.log" 2>&1 || fail "make && make check: $(cat "$work/check.log")"
cd ..
for step in 'write at the edges' 'requests that are cancelled end' 'snapshot: prepare and abort' \
    'resize: prepare and commit' 'policy-change: with' 'lets go of everything when quiesced' \
    'leaves and another joins the chain under load' 'leaves nothing behind'; do
    grep -q "^ok  .*$step" "$work/check.log" || fail "the check did not try: $step"
done
! grep -q '^FAIL' "$work/check.log" || fail "$(cat "$work/check.log")"
for class in io-control compression encryption replication cache backing-control; do
    sluice filter new "my-$class" --class $class >/dev/null || fail "no filter of class $class"
    make -s -C "my-$class" CFLAGS='-O2 -Werror' || fail "make for class $class"
    [ "$(sluice filter show "./my-$class/my-$class.so" --json | jq -r .class)" = $class ] || fail "class $class"
done

# --- a check that can fail: with the wrong option, and with a bug planted in the source
refused 'no option "gaurd" (did you mean guard?)' sluice filter check canary/canary.so --set gaurd=1
mkdir broken
sed 's/return sluice_pass_and_tell();/return sluice_complete();/' canary/canary.c >broken/canary.c
! cmp -s canary/canary.c broken/canary.c || fail "no bug was planted"
cp canary/Makefile broken/ && make -s -C broken || fail "make of the broken one"
refused 'written was' sluice filter check broken/canary.so
sluice filter check canary/canary.so --json | jq -e '.passed and (.checks | length > 10 and all(.result != "FAIL"))' >/dev/null ||
    fail "filter check --json: $(sluice filter check canary/canary.so --json)"
sluice filter check broken/canary.so --json 2>"$work/err" | jq -e '(.passed | not) and any(.checks[]; .result == "FAIL")' >/dev/null ||
    fail "filter check --json of a broken one: $(cat "$work/err")"

# --- try: a RAM disk that a real client can use, and counters that live
cd canary
readme_line 4 'sluice filter try ./canary.so --size 64MiB --set guard=1MiB'
eval "exec $line" >"$work/try.out" 2>"$work/try.err" &
trial=$!
cd ..
children=$trial
has_uri() { grep -q '^nbd+unix:' "$work/try.out"; }
within 20 has_uri || fail "try printed no URI: $(cat "$work/try.err")"
uri=$(grep -m 1 '^nbd+unix:' "$work/try.out")
folder=$(dirname "${uri##*=}")
within 20 nbdinfo --size "$uri" >"$work/size" 2>/dev/null || fail "$uri does not answer"
[ "$(cat "$work/size")" = 67108864 ] || fail "the disk has $(cat "$work/size") bytes"
qemu-io -f raw -c 'write -P 7 4k 4k' -c 'write -P 8 2M 4k' -c 'read -P 7 4k 4k' -c 'read -P 8 2M 4k' "$uri" \
    >"$work/io" 2>&1 || fail "qemu-io: $(cat "$work/io")"
! grep -q 'verification failed' "$work/io" || fail "$(cat "$work/io")"
has_counted() { grep -q 'touched 1$' "$work/try.out"; }
within 20 has_counted || fail "the write was not counted: $(tail -n 3 "$work/try.out")"
kill -INT $trial
wait $trial || fail "try ended with $?: $(cat "$work/try.err")"
children=
[ ! -e "$folder" ] || fail "try left $folder"
refused 'guard: expected a size' sluice filter try ./canary/canary.so --set guard=much
refused 'no option "gaurd" (did you mean guard?)' sluice filter try ./canary/canary.so --set gaurd=1
refused 'cannot make a disk of 0 bytes' sluice filter try ./canary/canary.so --size 0
refused './nothing.so: No such file' sluice filter try ./nothing.so

# --- install, list, show
cd canary
readme_line 5 'make install'
eval "$line" >"$work/out" || fail "make install of the filter"
cd ..
grep -qx "sha256: $(sha256sum <canary/canary.so | cut -d' ' -f1)" "$work/moved/lib/sluice/filters/canary.yaml" ||
    fail "the installed manifest: $(cat "$work/moved/lib/sluice/filters/canary.yaml")"
readme_line 6 'sluice filter list'
eval "$line" >"$work/list" || fail "filter list: $(cat "$work/list")"
grep -q '^canary  *inspection  *0.1 ' "$work/list" || fail "canary is not listed: $(cat "$work/list")"
readme_line 7 'sluice filter show canary'
eval "$line" >"$work/show" || fail "filter show"
grep -q 'guard .*default 1MiB' "$work/show" || fail "$(cat "$work/show")"
sed -i 's/^class:.*/class: cache/' "$work/moved/lib/sluice/filters/canary.yaml"
sluice filter list >"$work/list"
[ $? -eq 2 ] || fail "a manifest that lies did not make exit code 2"
grep -q 'manifest: .*canary.yaml: class is cache there and inspection in the filter' "$work/list" ||
    fail "$(cat "$work/list")"
make -s -C canary install || fail "make install again"
cp "$work/moved/lib/sluice/nbdkit-sluice-plugin.so" "$work/moved/lib/sluice/filters/" || fail "copy"
sluice filter list --json >"$work/list" || fail "a library that is no filter made the list fail"
jq -e 'map(.name) as $n | all("canary", "passthru", "qos"; IN($n[])) and (map(.path) | all(contains("nbdkit") | not))' \
    "$work/list" >/dev/null || fail "$(cat "$work/list")"
refused 'is no filter: it does not export sluice_filter_table' sluice filter show nbdkit-sluice-plugin
echo "not a library" >"$work/moved/lib/sluice/filters/text.so"
sluice filter list >"$work/list" 2>&1
[ $? -eq 2 ] || fail "a broken filter did not make exit code 2"
grep -q 'text.so: broken: ' "$work/list" || fail "$(cat "$work/list")"
rm "$work/moved/lib/sluice/filters/text.so"

# --- the lines of the manual page, in its order, and its manifest
cd "$work" || exit 1
sed -n 's/^ \$ //p' "$top_srcdir/docs/sluice-filter.pod" >"$work/page.sh"
[ "$(wc -l <"$work/page.sh")" -ge 10 ] || fail "the manual page has no commands"
while IFS= read -r line <&3; do
    eval "$line" >"$work/out" 2>"$work/err" || fail "$line: $(cat "$work/err" "$work/out")"
done 3<"$work/page.sh"
[ "$PWD" = "$work/tripwire" ] || fail "the manual page made no tripwire"
sluice filter list --json | jq -e '.[] | select(.name == "tripwire") | .manifest == "ok"' >/dev/null ||
    fail "the installed tripwire: $(sluice filter list)"
sed -n '/^ # tripwire.yaml/,/^$/s/^ //p' "$top_srcdir/docs/sluice-filter.pod" >tripwire.yaml
sed -i 's/needs: .*/needs: []/; s/vendor: .*/vendor: Unknown/' tripwire.yaml
sluice filter check ./tripwire.so >"$work/out" 2>&1 || fail "the page's manifest: $(cat "$work/out")"
grep -q '^ok    its manifest says' "$work/out" || fail "$(cat "$work/out")"
message=$(sed -n 's/^ \(tripwire.yaml:4:8: .*\)/\1/p' "$top_srcdir/docs/sluice-filter.pod")
sed -i -e 1d -e 's/^class: .*/class: inspektion/' tripwire.yaml
refused "$message" sluice filter check ./tripwire.so
[ -n "$message" ] || fail "the page shows no message"

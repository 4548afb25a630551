#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A gateway whose process is stopped answers nobody: every verb gives up with a sentence and exit 1, what was to be
# changed in its folder is as it was, and all works again when the gateway goes on.  Work that lasts is waited for, as
# long as the gateway that does it answers others.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires qemu-io
make_config "limits: { quiesce: 13s }"
for name in a slow; do
    truncate -s 1M "$work/$name.raw"
    disk $name <<END
backing: { file: $work/$name.raw }
filters: [$([ $name = a ] || echo "forever: { op: write }")]
END
done
serve
# verb NUMBER ARGS...: in the background.
verb() {
    number=$1
    shift
    (
        # shellcheck disable=SC2086 # words
        "$sluice_program" $* --config "$config" >"$work/$number.out" 2>"$work/$number.errors"
        echo $? >"$work/$number.exit"
    ) &
    children="$children $!"
}
answered() { [ -s "$work/$1.exit" ]; }

# The disk cannot be quiesced: that is said when the time is up, which is later than a gateway may be silent.
qemu-io -f raw "$(uri slow)" -c "write 0 4k" >"$work/out" 2>&1 &
children="$children $!"
holds_one() { sluice disk show slow --tasks | grep -q "filter forever"; }
within 20 holds_one || fail "no request is held"
verb slow disk event slow snapshot
within 60 answered slow || fail "an event that lasts does not end"
grep -q 'could not be quiesced within 13 s' "$work/slow.errors" || fail "an event that lasts: $(cat "$work/slow.errors")"
sluice forever release slow >"$work/out" || fail "release: $(cat "$work/out")"

kill -STOP $gateway
# Those that change a disk's file come each to its own.
cp -r "$config/disks.d" "$work/before"
cat >"$work/verbs" <<END
status
metrics
diff
reload
reload --dry-run
watch
watch --now
disk list
disk show a
disk snapshot a s
disk event a snapshot
disk reopen a
disk add b --file $work/b.raw --size 1MiB
disk resize slow 2MiB
disk remove a
forever release slow
END
number=0
while read -r words; do
    number=$((number + 1))
    verb $number "$words"
done <"$work/verbs"
number=0
while read -r words; do
    number=$((number + 1))
    within 60 answered $number || fail "sluice $words waits for a stopped gateway"
    [ "$(cat "$work/$number.exit")" = 1 ] || fail "sluice $words exits with $(cat "$work/$number.exit")"
    grep -q "does not answer" "$work/$number.errors" || fail "sluice $words says: $(cat "$work/$number.errors")"
done <"$work/verbs"
diff -r "$config/disks.d" "$work/before" || fail "a file of a disk is not as it was"
kill -CONT $gateway
sluice status >"$work/out" || fail "no status once it goes on"
sluice reload >"$work/out" || fail "no reload once it goes on"
echo "$number verbs gave up, and the gateway answered again"

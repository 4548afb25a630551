#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A gateway whose process is stopped answers nobody: what only looks gives up with a sentence and exit 1, and
# works again when the gateway goes on.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
make_config
truncate -s 1M "$work/a.raw"
disk a <<END
backing: { file: $work/a.raw }
END
serve
looking="status metrics diff"
kill -STOP $gateway
for verb in $looking; do
    (
        sluice $verb >"$work/$verb.out" 2>"$work/$verb.errors"
        echo $? >"$work/$verb.exit"
    ) &
    children="$children $!"
done
answered() { [ -s "$work/$1.exit" ]; }
for verb in $looking; do
    within 60 answered "$verb" || fail "sluice $verb waits for a stopped gateway"
    [ "$(cat "$work/$verb.exit")" = 1 ] || fail "sluice $verb exits with $(cat "$work/$verb.exit")"
    grep -q "does not answer" "$work/$verb.errors" || fail "sluice $verb says: $(cat "$work/$verb.errors")"
done
kill -CONT $gateway
sluice status >"$work/out" || fail "no status once it goes on"
echo "$looking: gave up, and answered again"

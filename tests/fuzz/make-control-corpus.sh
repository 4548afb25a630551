#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Makes the corpus of fuzz-control anew: each verb with its keys, and what is wrong in each manner.
set -eu
cd "$(dirname "$0")/../.."
out=tests/fuzz/corpus/control
mkdir -p $out
count=0
while IFS= read -r line; do
    count=$((count + 1))
    printf '%s\n' "$line" >"$out/$(printf %02d $count)"
done <<'END'
{"verb": "status"}
{"verb": "status", "disk": "a"}
{"verb": "tasks", "disk": "a"}
{"verb": "reload", "dry_run": true, "force": false}
{"verb": "diff"}
{"verb": "metrics"}
{"verb": "watch", "now": true}
{"verb": "disk-resize", "disk": "a", "size_bytes": 1048576}
{"verb": "disk-resize", "disk": "a", "size_bytes": -1}
{"verb": "disk-resize", "disk": "a", "size_bytes": 1e3}
{"verb": "disk-snapshot", "disk": "a", "name": "b"}
{"verb": "disk-reopen", "disk": "a"}
{"verb": "disk-event", "disk": "a", "event": "snapshot", "phase": "prepare", "name": ""}
{"verb": "filter", "filter": "cache", "filter_verb": "dump", "disk": "a", "args": ["x", "y"]}
{"verb": "filter", "filter": "cache", "filter_verb": "dump", "disk": "a", "args": ["x", 1]}
{"verb": "filter", "args": []}
{"verb": "failover", "disk": "a", "force": true}
{"verb": "peer-check"}
{"verb": "no-such"}
{"verb": 1}
{"verb": "status", "verb": "diff"}
{"verb": "st\u0000atus"}
{"verb": "status", "pad": "\ud83d\ude00"}
{"disk": {"a": [null, 1.5, {}]}}
{"verb": "status"
[]
null

garbage
END
# More words than there may be, and three requests in one stream with the beginning of a fourth.
{
    printf '{"verb": "filter", "args": ['
    for i in $(seq 1 32); do printf '"%s", ' "$i"; done
    printf '"33"]}\n'
} >$out/words
printf '{"verb": "status"}\n\n{"verb": "diff"}\n{"verb": "me' >$out/stream

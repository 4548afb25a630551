#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# base < io < backing < engine < disk < host < peer < config < scsi < iscsi < control < cli: a room includes only
# rooms before it, and another room only by its one public header, ROOM/ROOM.h.  The plugin stands beside cli.
# Filters include sluice-filter.h, their own folder's headers and those of filters/common alone; the engine may include it too, for the
# types both sides share.  Planted violations are found.
. "$(dirname "$0")/functions.sh"

# judge FILE...: prints each #include "..." that breaks the rule.
judge() {
    awk '
    BEGIN {
        count = split("base io backing engine disk host peer config scsi iscsi control cli", rooms, " ")
        for (i = 1; i <= count; i++) place[rooms[i]] = i
    }
    function wrong(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, header, why }
    FNR == 1 {
        parts = split(FILENAME, path, "/")
        folder = FILENAME; sub("/[^/]*$", "", folder)
        room = path[1] == "gateway" ? path[2] : path[1] == "nbdkit-plugin" ? "cli" : ""
        is_filter = path[1] == "filters"
        if (path[1] == "gateway" && !(room in place)) print FILENAME ": the room " room " has no place in the order"
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        header = $0; sub(/^[^"]*"/, "", header); sub(/".*/, "", header)
        if (header == "sluice-filter.h") {
            if (!is_filter && place[room] < place["engine"]) wrong("knows nothing of filters")
            next
        }
        if (header ~ /^\.|\/\.\./) { wrong("climbs out of its folder"); next }
        if (is_filter) { if (header ~ /\// && header !~ /^common\//) wrong("a filter includes sluice-filter.h alone"); next }
        if (header !~ /\//) next
        split(header, to, "/")
        if (!(to[1] in place)) wrong("no such room")
        else if (to[1] == room) next
        else if (place[to[1]] > place[room] || path[1] == "nbdkit-plugin" && to[1] == "cli")
            wrong(room " comes before " to[1])
        else if (header != to[1] "/" to[1] ".h") wrong("not the public header of " to[1])
    }' "$@"
}

mkdir -p "$work/gateway/io" "$work/gateway/cli" "$work/filters/a" "$work/gateway/attic"
echo '#include "engine/engine.h"' >"$work/gateway/io/up.c"
echo '#include "io/internal.h"' >"$work/gateway/cli/inside.c"
echo '#include "base/base.h"' >"$work/filters/a/a.c"
echo '#include "sluice-filter.h"' >"$work/gateway/io/filter.c"
echo '#include "../io/io.h"' >"$work/gateway/cli/dots.c"
echo 'int attic;' >"$work/gateway/attic/attic.c"
for planted in gateway/io/up.c gateway/cli/inside.c filters/a/a.c gateway/io/filter.c gateway/cli/dots.c \
    gateway/attic/attic.c; do
    [ -n "$(cd "$work" && judge "$planted")" ] || { echo "$planted was planted and is not found"; exit 1; }
done

# shellcheck disable=SC2046 # names without blanks
judge $(sources 'gateway/*.[ch]' 'nbdkit-plugin/*.[ch]' 'filters/*.[ch]') >"$work/wrong"
verdict "$work/wrong"

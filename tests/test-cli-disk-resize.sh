#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice disk resize` writes the size where somebody would have written it, keeps everything else in the
# file, survives a restart, and leaves the file as it was whenever anything says no.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires jq nbdinfo

make_config
policy=$config/disks.d/a.yaml

# write_policy: from standard input, with a backing file of 16 MiB.
write_policy() {
    sed "s|FILE|$work/a.raw|" >"$policy"
    rm -rf "$work/state" "$work/a.raw"
    truncate -s 16M "$work/a.raw"
}

size_of_policy() {
    sluice check --effective a | sed -n 's/^size: \([^ ]*\).*/\1/p'
}

# becomes NAME SIZE: resizes and compares the file with what is on standard input.
becomes() {
    sed "s|FILE|$work/a.raw|" >"$work/wanted"
    sluice disk resize a "$2" >/dev/null 2>"$work/errors" || fail "$1: $(cat "$work/errors")"
    cmp "$work/wanted" "$policy" || fail "$1: the file is $(cat "$policy")"
    [ "$(size_of_policy)" = "$2" ] || fail "$1: the loader reads $(size_of_policy)"
}

# --- every style of writing it, without a gateway
write_policy <<END
# of the mail server
size: 16MiB   # ordered in May
backing: { file: FILE }
END
becomes "a comment behind it" 32MiB <<END
# of the mail server
size: 32MiB   # ordered in May
backing: { file: FILE }
END

write_policy <<END
---
backing:
  file: FILE
size: "16MiB"
...
END
becomes "quotes, and markers of a document" 32MiB <<END
---
backing:
  file: FILE
size: 32MiB
...
END

write_policy <<END
{ backing: { file: FILE }, size: 16MiB, export: { nbd: { listed: true } } }
END
becomes "flow style" 32MiB <<END
{ backing: { file: FILE }, size: 32MiB, export: { nbd: { listed: true } } }
END

write_policy <<END
{size: 16777216,backing: {file: FILE}}
END
becomes "flow style, tight" 32MiB <<END
{size: 32MiB,backing: {file: FILE}}
END

write_policy <<END
# no size: as large as the file
--- # begins here
backing: { file: FILE } # size: 1MiB
END
becomes "no size" 32MiB <<END
# no size: as large as the file
--- # begins here
size: 32MiB
backing: { file: FILE } # size: 1MiB
END

write_policy <<END
{ backing: { file: FILE } }
END
becomes "no size in flow style" 32MiB <<END
{ size: 32MiB, backing: { file: FILE } }
END

write_policy <<END
  backing: { file: FILE }
  group: g
END
becomes "indented" 32MiB <<END
  size: 32MiB
  backing: { file: FILE }
  group: g
END

write_policy <<END
{ backing: { file: FILEö }, size: 16MiB }
END
truncate -s 16M "$work/a.rawö"
becomes "a character of two bytes before it" 32MiB <<END
{ backing: { file: FILEö }, size: 32MiB }
END

cat >"$config/policies.d/gold.yaml" <<END
size: 16MiB
END
cp "$config/policies.d/gold.yaml" "$work/gold"
write_policy <<END
policy: gold
backing: { file: FILE }
END
becomes "the size of a named policy" 32MiB <<END
size: 32MiB
policy: gold
backing: { file: FILE }
END
cmp "$work/gold" "$config/policies.d/gold.yaml" || fail "the named policy was changed"

# A link and the mode of the file stay.
write_policy <<END
size: 16MiB
backing: { file: FILE }
END
mv "$policy" "$work/kept.yaml"
chmod 604 "$work/kept.yaml"
ln -s "$work/kept.yaml" "$policy"
sluice disk resize a 32MiB >/dev/null 2>&1 || fail "through a link"
[ -L "$policy" ] || fail "the link became a file"
[ "$(stat -c %a "$work/kept.yaml")" = 604 ] || fail "the mode changed"
grep -q '^size: 32MiB$' "$work/kept.yaml" || fail "the file behind the link was not changed"
rm "$policy"

# --- what is refused, without a trace
write_policy <<END
size: 16MiB
backing: { file: FILE }
END
cp "$policy" "$work/before"

# refuses EXIT-CODE PATTERN ARGUMENT...
refuses() {
    wanted=$1 pattern=$2
    shift 2
    sluice disk resize "$@" >"$work/out" 2>"$work/errors"
    status=$?
    [ $status -eq "$wanted" ] || fail "resize $*: exit $status, not $wanted: $(cat "$work/errors")"
    [ ! -s "$work/out" ] || fail "resize $*: prints $(cat "$work/out") on stdout"
    grep -q "$pattern" "$work/errors" || fail "resize $*: says $(cat "$work/errors")"
    cmp "$work/before" "$policy" || fail "resize $*: the file is $(cat "$policy")"
    [ -z "$(find "$config" -name '*.new')" ] || fail "resize $*: left a file behind"
}

refuses 3 "something is missing" a
refuses 3 "too many" a 32MiB now
refuses 3 "no size" a 32MB
refuses 3 "no size" a 0
refuses 3 "unknown option -5" a -5
refuses 3 "no size" a ""
refuses 3 "no name for a disk" ../a 32MiB
refuses 3 "unknown option --shrink" a 32MiB --shrink
refuses 1 'no disk "b"' b 32MiB
refuses 1 "never made smaller" a 8MiB
refuses 1 "multiple of 512\|512" a 16777217
write_policy <<END
backing: { file: FILE }
END
cp "$policy" "$work/before"
refuses 1 "never made smaller" a 8MiB
printf 'size: 16MiB\nbacking: [\n' >"$policy"
cp "$policy" "$work/before"
refuses 1 "a.yaml:" a 32MiB

# --- with a gateway: clients see it, a restart keeps it
write_policy <<END
size: 16MiB
backing: { file: FILE }
filters:
  - refuse: { event: resize }
END
serve
cp "$policy" "$work/before"
refuses 1 "I would rather not" a 32MiB
[ "$(nbdinfo --size "$(uri a)")" = 16777216 ] || fail "a refused resize changed the disk"
sluice diff | grep -q "nothing to do" || fail "after a refused resize the files differ from the disk"

sed -i '/filters/,$d' "$policy"
sluice reload >/dev/null || fail "reload"
sluice disk resize a 32MiB >/dev/null || fail "resize"
[ "$(nbdinfo --size "$(uri a)")" = 33554432 ] || fail "the next client does not see the new size"
sluice diff | grep -q "nothing to do" || fail "after a resize the files differ from the disk"
stop
serve
[ "$(nbdinfo --size "$(uri a)")" = 33554432 ] || fail "the new size did not survive a restart"
stop KILL
serve
[ "$(nbdinfo --size "$(uri a)")" = 33554432 ] || fail "the new size did not survive a kill"
cp "$policy" "$work/before"
refuses 1 "never made smaller" a 16MiB

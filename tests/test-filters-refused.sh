#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What a gateway refuses of filters: one that forgets an operation, was built for another version of the
# API or against too small a table, is no filter, has the name of another, stands in the wrong place, breaks
# a need or is broken by one, cannot be opened, or refuses an attach, snapshot or resize.  Each is refused
# with its name and the reason, by `sluice check` where that can know, and by the reload; and the running
# chain stays as it was, under a verifying load with that chain in it.
. "${top_srcdir:-.}/tests/functions.sh"
requires jq cc
make_config
mkdir "$work/filters" "$work/other"
SLUICE_FILTER_PATH=$work/filters:$SLUICE_FILTER_PATH

# variant FILE NAME [TABLE-ENTRY...]: passthru in other clothes; later entries of a table win.
variant() {
    file=$1
    name=$2
    shift 2
    {
        sed '/^static const struct sluice_filter filter/,$d' "$top_srcdir/filters/passthru/passthru.c"
        echo 'int refuse_open(struct sluice_disk *, const struct sluice_value *, void **, struct sluice_error *);'
        echo 'int refuse_open(struct sluice_disk *disk, const struct sluice_value *v, void **i,'
        echo '    struct sluice_error *e) { (void)v, (void)i; return sluice_refuse(disk, e, EIO, "my key is lost"); }'
        sed -n '/^static const struct sluice_filter filter/,/^};/p' "$top_srcdir/filters/passthru/passthru.c" |
            sed -e "s/\"passthru\"/\"$name\"/" -e '/^};/d'
        for entry; do
            echo "    $entry,"
        done
        echo '};'
        [ "$name" = none ] && echo 'int nothing = sizeof filter;' || echo 'SLUICE_FILTER(filter)'
    } | sed '/^#define BOTH/d; s/BOTH/SLUICE_HANDLE(start, end)/' >"$work/source.c"
    cc -std=gnu11 -Wno-override-init -shared -fPIC -fvisibility=hidden -I"$top_srcdir/filters" -o "$file.so" \
        "$work/source.c" || fail "$name does not build"
}
variant "$work/filters/new" new '.api_version = 2'
variant "$work/filters/small" small '.struct_size = 64'
variant "$work/filters/none" none
variant "$work/filters/renamed" somebody
variant "$work/other/passthru" passthru
variant "$work/filters/squeeze" squeeze '.filter_class = SLUICE_CLASS_COMPRESSION' '.traits = SLUICE_TRAIT_CHANGES_DATA'
variant "$work/filters/store" store '.traits = SLUICE_TRAIT_HOLDS_DATA'
variant "$work/filters/once" once '.needs = SLUICE_NEEDS_EVERY_WRITE_ONCE'
variant "$work/filters/sized" sized '.needs = SLUICE_NEEDS_FINAL_SIZE'
variant "$work/filters/index" index '.filter_class = SLUICE_CLASS_CACHE' '.needs = SLUICE_NEEDS_PLAINTEXT'
variant "$work/filters/lost" lost '.open = refuse_open'
variant "$work/filters/strange" strange '.needs = 0x80'
echo 'int' >"$work/filters/garbage.so"

policy() {
    disk d <<END
size: ${size:-8MiB}
backing: { file: $work/d.raw }
filters:
$1
END
}
good="  - qos: { iops: 1000000 }
  - delay: { op: read, time: 1ms }
  - passthru"
policy "$good"
serve
# The gateway is asked through a copy of its configuration, which stays good: what it is to load and to
# refuse is for the gateway, not for the command, to find.
cp -r "$config" "$work/asked"
ask() { "$sluice_program" "$@" --config "$work/asked"; }
chain() { ask disk show d --json | jq -r '[.filters[] | .name + ":" + .health.state] | join(" ")'; }
as_it_was="qos:ok delay:ok passthru:ok"
[ "$(chain)" = "$as_it_was" ] || fail "the chain is: $(chain)"
"$nbd_load" "$(uri d)" --seconds 600 --depth 16 --blocks 512 >"$work/load.json" 2>"$work/load.err" &
load=$!
children=$load
deferrals() { ask disk show d --json | jq '[.filters[] | .verdicts.deferred] | add'; }
goes_on() { [ "$(deferrals)" -gt "$before" ]; }
# The load goes through the same chain as before, and it is the same instance of it.
stays() {
    [ "$(chain)" = "$as_it_was" ] || fail "after $1 the chain is: $(chain)"
    now=$(deferrals)
    [ "$now" -ge "$before" ] || fail "after $1 the chain has been made anew"
    before=$now
    within 20 goes_on || fail "after $1 the load stands still"
    kill -0 $load || fail "after $1 the load has ended: $(cat "$work/load.err")"
}
before=0
within 20 goes_on || fail "no load"

said() {
    grep -qF -- "$2" "$work/err" || fail "$1: not \"$2\" but: $(cat "$work/err")"
}
count=0
# By the check and by the reload: WHAT, the filters, and what has to be said.
refused() {
    what=$1
    policy "$2"
    shift 2
    sluice check >/dev/null 2>"$work/err" && fail "$what: the check found nothing"
    for sentence; do said "check of $what" "$sentence"; done
    ask reload >/dev/null 2>"$work/err" && fail "$what: was loaded"
    for sentence; do said "reload of $what" "$sentence"; done
    stays "$what"
    count=$((count + 1))
}
line=4 # of the first filter
refused "a forgotten operation" "$good
  - forgetful" "disks.d/d.yaml:$((line + 3)):5: filters[3]" "filter forgetful: forgets trim"
refused "a far version" "$good
  - wrongabi" "wrongabi.so" "was built for filter API version 99, this gateway speaks 1"
refused "the next version" "$good
  - new" "new.so" "was built for filter API version 2, this gateway speaks 1"
refused "a table that is too small" "$good
  - small" "small.so" "its table has 64 bytes, at least"
refused "no symbol" "$good
  - none" "none.so: is no filter: it does not export sluice_filter_table"
refused "no library" "$good
  - garbage" "garbage.so"
refused "an unknown need" "$good
  - strange" "filter strange: has needs or traits that this gateway does not know"
refused "another name than its file" "$good
  - renamed" "renamed.so holds a filter of another name, somebody"
refused "an unknown name" "$good
  - passthrough" 'unknown filter "passthrough"'
refused "two instances of one name" "$good
  - passthru" "a second instance named passthru (first at line $((line + 2))): give it a name:"
refused "two filters of one name" "$good
  - $work/other/passthru.so: { name: another }" "disks.d/d.yaml:$((line + 3)):5: filters[3].passthru" \
    "has the name of another file's filter (disks.d/d.yaml:$((line + 2))): a gateway serves one passthru"
refused "the wrong order" "  - passthru
  - qos: { iops: 1000 }" "class io-control comes before class inspection: move line $((line + 1)) above line $line (passthru)"
refused "a need for plaintext" "$good
  - squeeze
  - index" "filters[4].index: needs plaintext, but squeeze above it changes the data"
refused "a need for every write" "  - store
  - once" "filters[1].once: needs to see every write once, but store above it holds writes back"
refused "a need for the final size" "  - sized
  - squeeze" "filters[0].sized: needs the final size, but squeeze in the same chain changes lengths"

# --- what only the disk can say: the reload refuses, the check cannot know
refused_live() {
    what=$1
    policy "$2"
    shift 2
    sluice check >/dev/null 2>"$work/err" || fail "check of $what: $(cat "$work/err")"
    ask reload >/dev/null 2>"$work/err" && fail "$what: was loaded"
    for sentence; do said "$what" "$sentence"; done
    stays "$what"
    count=$((count + 1))
}
refused_live "a filter that does not open" "$good
  - lost" lost "my key is lost"
refused_live "a refused attach" "$good
  - refuse: { event: attach }" refuse "I would rather not"

# --- events of a filter that stands in the chain
as_it_was="$as_it_was refuse:ok"
for event in snapshot resize detach; do
    policy "$good
  - refuse: { event: $event }"
    ask reload >/dev/null 2>"$work/err" || fail "$event: $(cat "$work/err")"
    before=0
    stays "attaching one that refuses $event"
    case $event in
    snapshot)
        ask disk event d snapshot --prepare 2>"$work/err"
        [ $? -eq 2 ] || fail "a refused snapshot is not exit code 2"
        ;;
    resize)
        size=16MiB
        policy "$good
  - refuse: { event: resize }"
        ask reload >/dev/null 2>"$work/err" && fail "a refused resize was done"
        [ "$(ask disk show d --json | jq .size_bytes)" = 8388608 ] || fail "the disk has grown"
        size=8MiB
        ;;
    detach)
        policy "$good"
        ask reload >/dev/null 2>"$work/err" && fail "a refused detach was done"
        ;;
    esac
    said "$event" refuse
    said "$event" "I would rather not"
    stays "a refused $event"
    count=$((count + 1))
    [ $event = detach ] || {
        policy "$good"
        ask reload >/dev/null 2>"$work/err" || fail "detaching: $(cat "$work/err")"
    }
done

kill -TERM $load
wait $load || fail "the load: $(cat "$work/load.json" "$work/load.err")"
children=
[ "$(field "$(cat "$work/load.json")" errors)" = 0 ] || fail "requests failed: $(cat "$work/load.json")"
[ "$(field "$(cat "$work/load.json")" wrong)" = 0 ] || fail "wrong bytes: $(cat "$work/load.json")"
echo "$count kinds of filter and event refused"
stop TERM

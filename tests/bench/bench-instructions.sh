#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# How many instructions of its own a request costs the gateway process: with no and with five filters that let
# everything pass and ask for completions, and the same request served by nbdkit file.  callgrind counts what
# nbdkit's threads for connections run, so the whole way from the socket to the socket and not the housekeeping;
# the difference of a long and a short load leaves out what is done once.  Instructions of the kernel cannot be
# counted this way: at one request in flight, they are most of a request.
#
# Exits 1 when a filter costs more than FILTER_LIMIT (45) instructions, both ways together.
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
requires valgrind callgrind_annotate
: "${FILTER_LIMIT:=45}" "${SHORT:=1000}" "${LONG:=6000}"
SIZE=16M

start_sluice() {
    valgrind --tool=callgrind --trace-children=yes --separate-threads=yes \
        --callgrind-out-file="$work/out" "$sluice_program" serve --config "$config" >>"$work/log" 2>&1 &
}

start_file() {
    valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$work/out" \
        nbdkit -f -t $THREADS -U "$work/file.sock" file "$work/disk.raw" >>"$work/log" 2>&1 &
}

# instructions SERVER OPERATION REQUESTS: of all threads that served the connection.
instructions() {
    rm -f "$work"/*.sock "$work"/out*
    case $1 in
    file) start_file ;;
    *) start_sluice ;;
    esac
    pid=$!
    children=$pid
    at=$(address "$1")
    within 120 nbdinfo --size "${at#*=}" >/dev/null 2>&1 || fail "$1 did not come up under callgrind"
    "$nbd_iops" --op "$2" --rounds 1 --requests $(($3 / 2)) "$at" >/dev/null || fail "the load on $1 failed"
    kill -TERM $pid
    wait $pid
    children=
    grep -lE "$serving" "$work"/out-* >"$work/threads" || fail "callgrind saw no request on $1"
    # shellcheck disable=SC2046
    awk '/^totals:/ { sum += $2 } END { print sum }' $(cat "$work/threads")
}

# a_request SERVER OPERATION
a_request() {
    case $1 in
    file) serving='^c?fn=.* send$|__send$|^fn=.*send' ;;
    *) serving='plugin_pread|plugin_pwrite|early\.c' ;;
    esac
    short=$(instructions "$1" "$2" "$SHORT") || exit 1
    long=$(instructions "$1" "$2" "$LONG") || exit 1
    echo $(((long - short) / (LONG - SHORT)))
}

make_image disk
make_config
for filters in 0 5; do
    cp "$work/disk.raw" "$work/of-$filters.raw"
    sluice_disk sluice-$filters of-$filters "" $filters
done
missed=0
printf '| operation | nbdkit file | no filter | 5 filters | a filter | 5 filters : none |\n'
printf '|---|---|---|---|---|---|\n'
for operation in randread randwrite; do
    file=$(a_request file $operation) || exit 1
    none=$(a_request sluice-0 $operation) || exit 1
    five=$(a_request sluice-5 $operation) || exit 1
    each=$(((five - none) / 5))
    printf '| %s | %s | %s | %s | %s | %s |\n' $operation "$file" "$none" "$five" $each \
        "$(jq -n "$five / $none * 1000 | round / 1000")"
    [ $each -le "$FILTER_LIMIT" ] || missed=$((missed + 1))
done
[ $missed -eq 0 ] || echo "MISSED: a filter costs more than $FILTER_LIMIT instructions"
[ $missed -eq 0 ]

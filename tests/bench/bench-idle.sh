#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# What a gateway keeps while nothing happens: threads and resident memory with no client, with CONNECTIONS (200)
# idle ones, with DISKS (100) disks, and processor time over SECONDS_EACH (10) idle seconds; beside nbdkit file
# with as many connections and the same threads a connection.  A report: it promises nothing but that all of
# them are served.
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
: "${CONNECTIONS:=200}" "${DISKS:=100}" "${SECONDS_EACH:=10}"
SIZE=1M

# hold URI-PATTERN NAMES: keeps CONNECTIONS connections open until its standard input ends.
cat >"$work/hold.py" <<'PY'
import resource, sys
import nbd
uri, count, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
handles = []
for i in range(count):
    handle = nbd.NBD()
    handle.connect_uri(uri.replace("NAME", names[i % len(names)]))
    handle.pread(512, 0)
    handles.append(handle)
print(count, flush=True)
sys.stdin.read()
PY

# state PID: threads, resident KiB, processor ticks
state() {
    awk '/^Threads:/ { t = $2 } /^VmRSS:/ { m = $2 } END { printf "%s %s ", t, m }' "/proc/$1/status"
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# row TEXT PID: what it has now, and how busy it is over the next seconds.
row() {
    # shellcheck disable=SC2046
    set -- "$1" "$2" $(state "$2")
    pace
    # shellcheck disable=SC2046
    set -- "$@" $(state "$2")
    printf '| %s | %s | %.1f | %.2f |\n' "$1" "$3" "$(jq -n "$4 / 1024")" \
        "$(jq -n "($8 - $5) / $(getconf CLK_TCK) / $SECONDS_EACH * 100")"
}

pace() {
    sleep "$SECONDS_EACH" # the time over which is measured
}

hold() {
    mkfifo "$work/hold.$1"
    shift_uri=$2
    fifo=$work/hold.$1
    shift 2
    /usr/bin/python3 "$work/hold.py" "$shift_uri" "$CONNECTIONS" "$@" <"$fifo" >"$fifo.out" 2>>"$work/log" &
    holder=$!
    children="$children $holder"
    exec 8>"$fifo"
    within 120 grep -q . "$fifo.out" || fail "not all of $CONNECTIONS connections were served"
}

let_go() {
    exec 8>&-
    wait $holder
}

/usr/bin/python3 -c 'import nbd' 2>/dev/null || {
    echo "needs libnbd's Python module (package python3-libnbd), which is not installed"
    exit 77
}
make_image disk
make_config
names=
for i in $(seq "$DISKS"); do
    echo "{ size: 1MiB, backing: { file: $work/d$i.raw }, filters: [passthru: {}] }" | disk "d$i"
    names="$names d$i"
done
peer_nbdkit file file "$work/disk.raw"
pid_peer=$pid_file
serve
printf '| | threads | resident MiB | processor %% |\n|---|---|---|---|\n'
row "nbdkit file, no client" "$pid_peer"
row "Sluice, $DISKS disks with a filter each, no client" "$gateway"
hold file "nbd+unix:///?socket=$work/file.sock" any
row "nbdkit file, $CONNECTIONS idle connections" "$pid_peer"
let_go
# shellcheck disable=SC2086
hold sluice "nbd+unix:///NAME?socket=$sock" $names
row "Sluice, $CONNECTIONS idle connections to $DISKS disks" "$gateway"
let_go
stop TERM

# SPDX-License-Identifier: BSD-3-Clause
# backing-functions: sourced by the tests that play the server of a remote backing.  Each gets a folder
# of its own in $dir; servers started through `server NAME COMMAND...` are killed at the end.
set -u
: "${top_srcdir:?}" "${top_builddir:?}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/sluice-backing.XXXXXX") || exit 99
plugin=$top_builddir/nbdkit-forgetful-plugin.so
driver=$top_builddir/tests/backing-driver
. "$top_srcdir/tests/python.sh"

# What was started in a subshell is known by its file too.  tests/functions.sh calls it as well, for tests
# that source both.
end_servers() {
    touch "$dir/enough"
    # Of those that run: the number of one that has ended may be somebody else's by now.
    kill $(jobs -pr) 2>/dev/null
    for file in "$dir"/*.pid; do
        [ -s "$file" ] && kill -9 "$(cat "$file")" 2>/dev/null
    done
    wait 2>/dev/null
    rm -rf "$dir"
}
trap end_servers EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# The last line of a skipped test is its reason.
need() {
    for program; do
        command -v "$program" >/dev/null || { echo "$program is not installed"; exit 77; }
    done
}

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -le $end ] || return 1
        sleep 0.02
    done
}

# server NAME COMMAND...: in the background; its output goes to $dir/NAME.log
server() {
    local name=$1
    shift
    "$@" >>"$dir/$name.log" 2>&1 &
    echo $! >"$dir/$name.pid"
}

kill_server() {
    local pid
    pid=$(cat "$dir/$1.pid")
    rm "$dir/$1.pid"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null
    # Dead, and at most not yet waited for by the shell that started it.
    until_true 5 has_ended "$pid" || fail "$1 is still there"
}

# keep_killing NAME START MIN_MS SPREAD_MS, in the background, until stop_killing
keep_killing() {
    while [ ! -e "$dir/enough" ]; do
        sleep "$(printf '0.%03d' $(($3 + RANDOM % $4)))"
        kill_server "$1"
        $2
    done
}

stop_killing() {
    touch "$dir/enough"
    wait "$1"
    rm "$dir/enough"
}

# drive KEY=VALUE...: starts the driver; its first answer is in $answer
drive() {
    coproc DRIVER { exec "$driver" "$@" 2>>"$dir/driver.log"; }
    driver_pid=$DRIVER_PID
    exec {to}>&"${DRIVER[1]}" {from}<&"${DRIVER[0]}"
    read -r -t 60 -u "$from" answer || answer="error: the driver is gone"
    case $answer in error*) wait "$driver_pid" ;; esac
}

# ask WORDS...: one line to the driver, its answer in $answer
ask() {
    echo "$*" >&"$to"
    read -r -t 60 -u "$from" answer || answer="error: no answer"
}

# expect PATTERN WORDS...
expect() {
    local pattern=$1
    shift
    ask "$@"
    # shellcheck disable=SC2254
    case $answer in
    $pattern) ;;
    *)
        tail -n 20 "$dir"/*.log >&2
        fail "$*: \"$answer\" is not \"$pattern\""
        ;;
    esac
}

expect_open() {
    # shellcheck disable=SC2254
    case $answer in
    $1) ;;
    *)
        tail -n 20 "$dir"/*.log >&2
        fail "open: \"$answer\" is not \"$1\""
        ;;
    esac
}

quit() {
    expect "ok closed" quit
    exec {to}>&- {from}<&-
    wait "$driver_pid" || fail "the driver ended with $?"
}

refreshed() { ask refresh && [ "$answer" = ok ]; }
flushed() { ask flush && [ "$answer" = ok ]; }

# A number out of the last answer: answer_number replayed
answer_number() {
    local rest=${answer##* $1=}
    echo "${rest%% *}"
}

is_listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start_sshd: on $ssh_port, for the user that $dir/user identifies, known as $dir/known says; needs ssh-keygen and
# sshd.  The process is the master; its sessions are found by their parent.
start_sshd() {
    ssh_port=$(free_port)
    ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
    ssh-keygen -q -t ed25519 -N '' -f "$dir/user"
    cp "$dir/user.pub" "$dir/authorized"
    echo "[127.0.0.1]:$ssh_port $(cut -d' ' -f1,2 "$dir/host.pub")" >"$dir/known"
    [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
    server sshd "$(command -v sshd)" -D -e -f /dev/null -p "$ssh_port" -h "$dir/host" -o ListenAddress=127.0.0.1 \
        -o AuthorizedKeysFile="$dir/authorized" -o StrictModes=no -o PidFile=none -o UsePAM=no \
        -o PermitRootLogin=yes -o Subsystem="sftp internal-sftp" -o MaxStartups=100
    until_true 20 is_listening "$ssh_port" || fail "no sshd: $(cat "$dir/sshd.log")"
}

# --- tests/fake-iscsi-target.py ------------------------------------------------------------------------

fake_iscsi() {
    port=$(free_port)
    uri=iscsi://127.0.0.1:$port/iqn.fake/0
}

# start_fake FAULT COUNT ABILITY...: and opens it; reconnect=DURATION
start_fake() {
    rm -f "$dir/disk" "$dir/disk.good"
    truncate -s 1M "$dir/disk"
    server fake "$python" "$top_srcdir/tests/fake-iscsi-target.py" "$port" "$dir/disk" "$@"
    until_true 10 is_listening "$port" || fail "no target"
    drive kind=iscsi uri="$uri" ${reconnect:+reconnect=$reconnect}
    expect_open ok
}

stop_fake() {
    quit
    kill_server fake
    echo "$1: well"
}

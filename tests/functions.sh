# SPDX-License-Identifier: BSD-3-Clause
# functions.sh: sourced by the tests that run a real gateway.  Each test gets a folder of its own,
# which goes with it, and every process it started is ended with it.
#
#   work             the folder
#   config           $work/etc, made by make_config
#   sock             the gateway's NBD socket; uri DISK prints a disk's URI
#   serve            starts the gateway and waits until it answers; $gateway is its process
#   sluice ARGS...   the command line, on $config

: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}"
: "${top_builddir:=$PWD}"
set -u
. "$top_srcdir/tests/python.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-test.XXXXXX")
config=$work/etc
sock=$work/nbd.sock
gateway=
children=

export SLUICE_PLUGIN=${SLUICE_PLUGIN:-$top_builddir/nbdkit-sluice-plugin.so}
export SLUICE_FILTER_PATH=${SLUICE_FILTER_PATH:-$top_builddir:$top_builddir/tests/filters}
sluice_program=${SLUICE:-$top_builddir/sluice}
nbd_load=$top_builddir/tests/tools/nbd-load

# The number of a child that has ended may by now be that of a process of another test.
is_ours() {
    ancestor=$1
    while [ "${ancestor:-0}" -gt 1 ]; do
        ancestor=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$ancestor/status" 2>/dev/null)
        [ "$ancestor" != $$ ] || return 0
    done
    return 1
}

cleanup() {
    status=$?
    for pid in $gateway $children; do
        ! is_ours "$pid" || kill -9 "$pid" 2>/dev/null
    done
    ! command -v end_servers >/dev/null || end_servers # of tests/backing-functions.sh
    wait 2>/dev/null
    [ $status -eq 0 ] || { [ -f "$work/log" ] && tail -n 40 "$work/log"; }
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# requires PROGRAM...: skips the test, with the reason, when one is missing.
requires() {
    for program; do
        command -v "$program" >/dev/null 2>&1 || {
            echo "needs $program, which is not installed"
            exit 77
        }
    done
}

# within SECONDS COMMAND...: until the command succeeds, at most so long, times PATIENCE (1): ./check, which has to
# say the same on a machine that does something else as well, is more patient.  What has to be quick is measured.
within() {
    deadline=$(($(date +%s%N) + $1 * ${PATIENCE:-1} * 1000000000))
    shift
    until "$@"; do
        [ "$(date +%s%N)" -lt $deadline ] || return 1
        sleep 0.02
    done
}

make_config() {
    mkdir -p "$config/disks.d" "$config/policies.d"
    cat >"$config/gateway.yaml" <<END
gateway: gw-test
state: $work/state
listen:
  nbd: ["unix:$sock"]
  control: "unix:$work/control.sock"
${1:-}
END
}

# disk NAME: its policy from standard input.
disk() {
    cat >"$config/disks.d/$1.yaml"
}

sluice() {
    verb=$1
    shift
    case $verb in
    disk | filter | cache) noun=$verb verb=$1; shift; "$sluice_program" "$noun" "$verb" --config "$config" "$@" ;;
    *) "$sluice_program" "$verb" --config "$config" "$@" ;;
    esac
}

is_answering() {
    sluice status >/dev/null 2>&1
    case $? in 0 | 2) ;; *) return 1 ;; esac
}

serve() {
    "$sluice_program" serve --config "$config" >>"$work/log" 2>&1 &
    gateway=$!
    within 10 is_answering || fail "the gateway did not come up"
}

# stop [SIGNAL]: TERM must end it with exit code 0.
stop() {
    kill -"${1:-TERM}" "$gateway"
    wait "$gateway" 2>/dev/null
    status=$?
    gateway=
    [ "${1:-TERM}" != TERM ] || [ $status -eq 0 ] || fail "after SIGTERM the gateway exited with $status"
}

uri() {
    echo "nbd+unix:///$1?socket=$sock"
}

# field JSON-TEXT NAME: a number out of nbd-load's answer.
field() {
    echo "$1" | jq -e ".$2"
}

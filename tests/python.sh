# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh disable=SC2034
# python.sh: sourced by the function files of the tests: which Python runs their helpers, and what is too
# little for a helper of its own.
#
#   $python     the system's own: it starts in a tenth of the time that a version manager's stand-in takes
#   has_ended   whether a process is gone: not before its last thread has let go of files and locks
#   free_port   prints a TCP port that is free on 127.0.0.1
python=$(PATH=/usr/bin:$PATH command -v python3)

free_port() {
    $python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

has_ended() {
    its_state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
    [ -z "$its_state" ] || { [ "$its_state" = Z ] && [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -le 1 ]; }
}

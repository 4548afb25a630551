# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh disable=SC2034
# python.sh: sourced by the function files of the tests: which Python runs their helpers, and what is too
# little for a helper of its own.
#
#   $python     the system's own: it starts in a tenth of the time that a version manager's stand-in takes
#   free_port   prints a TCP port that is free on 127.0.0.1
python=$(PATH=/usr/bin:$PATH command -v python3)

free_port() {
    $python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A disk image on another machine, through nbdkit's ssh plugin and a real sshd on an unprivileged
# loopback port: written, flushed, and nothing lost when the connections are cut under a load.
. "${top_srcdir:?}/tests/backing-functions.sh"
PATH=$PATH:/usr/sbin
need nbdkit python3 ssh-keygen sshd
nbdkit ssh --dump-plugin >/dev/null 2>&1 || { echo "nbdkit's ssh plugin is not installed"; exit 77; }
truncate -s 4M "$dir/image"
start_sshd

drive kind=nbdkit plugin=ssh arg=host=127.0.0.1 arg=port="$ssh_port" arg=path="$dir/image" \
    arg=user="$(id -un)" arg=identity="$dir/user" arg=known-hosts="$dir/known"
case $answer in
ok) ;;
*) tail "$dir"/*.log; fail "$answer" ;;
esac
expect "ok size=4194304 * ro=0 flush=1 *" info
expect ok write 0 1048576 3
expect ok flush
expect ok read 0 1048576 3
expect ok write 0 1048576 0

# Cuts every session; nbdkit answers errors then or ends, as it likes: what it tells us is EIO at worst,
# so cut while nothing is under way, and see that what was not flushed is there again.
expect ok flush
expect ok write 65536 65536 4
child=$(cat "/proc/$driver_pid/task/"*/children | tr -d ' ')
kill -9 "$child"
expect ok read 65536 65536 4
expect "* replayed=1 *" status
expect ok flush
expect ok write 65536 65536 0
ask load 2 8 1024 "$dir/image"
case $answer in ok*) ;; *) tail "$dir"/*.log; fail "$answer" ;; esac
echo "$answer"
expect ok verify
quit

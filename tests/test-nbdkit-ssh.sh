#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A disk image on another machine, through nbdkit's ssh plugin and a real sshd on an unprivileged
# loopback port: written, flushed, and nothing lost when the connections are cut under a load.
. "${top_srcdir:?}/tests/backing-functions.sh"
need nbdkit python3 ssh-keygen
sshd=$(PATH=$PATH:/usr/sbin command -v sshd) || { echo "sshd is not installed"; exit 77; }
nbdkit ssh --dump-plugin >/dev/null 2>&1 || { echo "nbdkit's ssh plugin is not installed"; exit 77; }

port=$(free_port)
ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
ssh-keygen -q -t ed25519 -N '' -f "$dir/user"
cp "$dir/user.pub" "$dir/authorized"
echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$dir/host.pub")" >"$dir/known"
truncate -s 4M "$dir/image"
[ "$(id -u)" = 0 ] && mkdir -p /run/sshd

# -D: the master; its sessions are found by their parent.
start() {
    server sshd "$sshd" -D -e -f /dev/null -p "$port" -h "$dir/host" -o ListenAddress=127.0.0.1 \
        -o AuthorizedKeysFile="$dir/authorized" -o StrictModes=no -o PidFile=none -o UsePAM=no \
        -o PermitRootLogin=yes -o Subsystem="sftp internal-sftp" -o MaxStartups=100
}
start
is_listening() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
until_true 10 is_listening || fail "no sshd: $(cat "$dir/sshd.log")"

drive kind=nbdkit plugin=ssh arg=host=127.0.0.1 arg=port="$port" arg=path="$dir/image" \
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

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A disk image on a web server, through nbdkit's curl plugin: read-only, and still there after the
# server was away.
. "${top_srcdir:?}/tests/backing-functions.sh"
need nbdkit python3
nbdkit curl --dump-plugin >/dev/null 2>&1 || { echo "nbdkit's curl plugin is not installed"; exit 77; }

# Made by a backing of its own, so that the contents are those of the driver.
mkdir "$dir/www"
truncate -s 4M "$dir/www/image"
drive kind=nbdkit plugin=file arg=file="$dir/www/image"
expect_open ok
expect ok write 1048576 1048576 5
expect ok flush
quit

port=$(free_port)
start() { server http "$python" "$top_srcdir/tests/range-http-server.py" "$port" "$dir/www"; }
start
opened() { drive kind=nbdkit plugin=curl ro=1 arg=url="http://127.0.0.1:$port/image" arg=timeout=5; [ "$answer" = ok ]; }
until_true 10 opened || fail "$answer"
expect "ok size=4194304 * ro=1 *" info
expect "ok nbdkit plugin curl: url=http://127.0.0.1:$port/image" identity
expect ok read 1048576 1048576 5
expect ok read 0 1048576 0
kill_server http
start
read_again() { ask read 1048576 1048576 5; [ "$answer" = ok ]; }
until_true 10 read_again || fail "$answer"
quit

drive kind=nbdkit plugin=curl arg=url="http://127.0.0.1:$port/nothing"
expect_open "error: driven: nbdkit plugin curl: *"

# Where it is says which one it is; who asks for it, and how, does not, and is no secret any more if it is told.
cp "$dir/www/image" "$dir/www/image?sign=secret"
drive kind=nbdkit plugin=curl ro=1 arg=url="http://me:secret@127.0.0.1:$port/image?sign=secret" arg=password=secret
expect_open ok
expect "ok nbdkit plugin curl: url=http://127.0.0.1:$port/image" identity
quit

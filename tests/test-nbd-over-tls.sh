#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# nbds:// with certificates from a folder: both sides prove who they are.  A server of another
# authority, a client without a certificate and a server without TLS are refused; the reconnection
# is encrypted again.
. "${top_srcdir:?}/tests/backing-functions.sh"
need nbdkit openssl python3

quietly() { "$@" >>"$dir/openssl.log" 2>&1 || fail "$*"; }

authority() {
    mkdir -p "$dir/$1"
    quietly openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=authority $1" \
        -keyout "$dir/$1/ca-key.pem" -out "$dir/$1/ca-cert.pem"
}

# certificate FOLDER NAME SUBJECT-ALT-NAME: NAME is server or client
certificate() {
    printf 'subjectAltName=%s\n' "$3" >"$dir/ext"
    quietly openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$dir/$1/$2-key.pem" -out "$dir/request"
    quietly openssl x509 -req -in "$dir/request" -days 2 -CA "$dir/$1/ca-cert.pem" \
        -CAkey "$dir/$1/ca-key.pem" -CAcreateserial -extfile "$dir/ext" -out "$dir/$1/$2-cert.pem"
}

authority ours
certificate ours server DNS:localhost,IP:127.0.0.1
certificate ours client DNS:gateway
authority theirs
certificate theirs client DNS:gateway
mkdir "$dir/nobody"
cp "$dir/ours/ca-cert.pem" "$dir/nobody"

truncate -s 4M "$dir/disk"
port=$(free_port)
start() {
    server nbdkit nbdkit -f -i 127.0.0.1 -p "$port" --tls=require --tls-verify-peer \
        --tls-certificates="$dir/ours" file "$dir/disk"
}
start
connected() { drive kind=nbd uri="nbds://localhost:$port" certificates="$dir/ours"; [ "$answer" = ok ]; }
until_true 10 connected || fail "$answer"
keep_killing nbdkit start 200 300 &
killer=$!
ask load 2 4 1024 "$dir/disk"
stop_killing $killer
case $answer in ok*) ;; *) tail "$dir"/driver.log; fail "$answer" ;; esac
echo "$answer"
[ "$(answer_number reconnects)" -ge 1 ] || fail "it was hardly ever killed"
expect ok verify
quit

refused() {
    drive "$@"
    expect_open "error: *"
    echo "refused: $answer"
}
until_true 10 connected || fail "$answer"
quit
refused kind=nbd uri="nbds://localhost:$port" certificates="$dir/theirs"
refused kind=nbd uri="nbds://localhost:$port" certificates="$dir/nobody"
refused kind=nbd uri="nbd://localhost:$port"

# Certificates mean TLS, whatever the URI says.
drive kind=nbd uri="nbd://localhost:$port" certificates="$dir/ours"
expect_open ok
quit
kill_server nbdkit
server nbdkit nbdkit -f -i 127.0.0.1 -p "$port" file "$dir/disk"
plainly() { drive kind=nbd uri="nbd://localhost:$port"; [ "$answer" = ok ]; }
until_true 10 plainly || fail "$answer"
quit
refused kind=nbd uri="nbd://localhost:$port" certificates="$dir/ours"

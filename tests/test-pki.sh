#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice pki` makes an authority and certificates that openssl, nbdkit and QEMU take: a disk over TCP
# is mounted with them and refused without; what is wrong is said, replaces nothing and leaves nothing.
. "${top_srcdir:-.}/tests/functions.sh"
requires openssl qemu-img nbdinfo
pki=$work/pki
sluice_pki() { "$sluice_program" pki "$@"; }
refused() {
    what=$1
    shift
    sluice_pki "$@" >/dev/null 2>"$work/err" && fail "taken: $*"
    grep -q -- "$what" "$work/err" || fail "$*: no \"$what\" in: $(cat "$work/err")"
}

# --- what is wrong ---
refused "--dir" init
refused "cannot read" issue gw-a --dir "$pki"
[ ! -e "$pki" ] || fail "a refused issue made its folder"
sluice_pki init --dir "$pki" >"$work/out" || fail "init"
grep -q "ca.pem  valid until 20" "$work/out" || fail "no validity: $(cat "$work/out")"
before=$(cat "$pki"/* | sha256sum)
refused "nothing is replaced" init --dir "$pki"
refused "no name for a certificate" issue ../x --dir "$pki"
refused "no name for a certificate" issue ca --dir "$pki"
refused "no name or address" issue gw-a --dir "$pki" --san ip:10.0.0
refused "no name or address" issue gw-a --dir "$pki" --san "dns:a,IP:10.0.0.1"
refused "no number of days" issue gw-a --dir "$pki" --days 0
refused "no layout" issue gw-a --dir "$pki" --layout vmware
refused "one word too many" issue gw-a gw-b --dir "$pki"
mkdir "$work/other"
sluice_pki init --dir "$work/other" >/dev/null
mkdir "$work/mixed"
cp "$pki/ca.pem" "$work/mixed"
cp "$work/other/ca.key" "$work/mixed"
refused "is not the key of" issue gw-a --dir "$work/mixed"
[ "$(ls "$work/mixed")" = "ca.key
ca.pem" ] || fail "a refused issue left something: $(ls "$work/mixed")"
[ "$(cat "$pki"/* | sha256sum)" = "$before" ] || fail "something changed: $(ls "$pki")"

# --- what is made ---
sluice_pki issue gw-a --dir "$pki" --san 127.0.0.1 --san dns:localhost >/dev/null || fail "issue"
sluice_pki issue vm-host --dir "$pki" --client --layout qemu >"$work/out" || fail "issue --client"
grep -q "tls-creds-x509.*$pki/vm-host" "$work/out" || fail "no hint: $(cat "$work/out")"
for key in "$pki/ca.key" "$pki/gw-a.key" "$pki/vm-host/client-key.pem"; do
    [ "$(stat -c %a "$key")" = 600 ] || fail "$key can be read by others"
done
openssl verify -x509_strict -purpose sslserver -CAfile "$pki/ca.pem" "$pki/gw-a.pem" >/dev/null || fail "gateway as server"
openssl verify -x509_strict -purpose sslclient -CAfile "$pki/ca.pem" "$pki/gw-a.pem" >/dev/null || fail "gateway as client"
openssl verify -purpose sslclient -CAfile "$pki/ca.pem" "$pki/vm-host/client-cert.pem" >/dev/null || fail "client"
openssl verify -purpose sslserver -CAfile "$pki/ca.pem" "$pki/vm-host/client-cert.pem" >/dev/null 2>&1 && fail "a client may be a server"
openssl verify -verify_ip 127.0.0.1 -CAfile "$pki/ca.pem" "$pki/gw-a.pem" >/dev/null || fail "the address is missing"
openssl verify -verify_hostname gw-a -CAfile "$pki/ca.pem" "$pki/gw-a.pem" >/dev/null || fail "the name is missing"
openssl verify -CAfile "$work/other/ca.pem" "$pki/gw-a.pem" >/dev/null 2>&1 && fail "another authority"

# --- in use ---
port=$(free_port)
make_config "tls: { ca: $pki/ca.pem, cert: $pki/gw-a.pem, key: $pki/gw-a.key }"
sed -i "s,\"unix:$sock\",\"unix:$sock\"\, \"0.0.0.0:$port\"," "$config/gateway.yaml"
disk vm <<END
size: 8MiB
backing: { file: $work/vm.raw }
END
"$sluice_program" check --config "$config" || fail "check"
serve
host=$(hostname -I 2>/dev/null | cut -d' ' -f1)
qemu-img info --object "tls-creds-x509,id=t,dir=$pki/vm-host,endpoint=client" --image-opts \
    "driver=nbd,host=127.0.0.1,port=$port,export=vm,tls-creds=t" >"$work/out" 2>&1 || fail "QEMU: $(cat "$work/out")"
sluice_pki issue stranger --dir "$work/other" --client --layout qemu >/dev/null
cp "$pki/ca.pem" "$work/other/stranger/ca-cert.pem"
qemu-img info --object "tls-creds-x509,id=t,dir=$work/other/stranger,endpoint=client" --image-opts \
    "driver=nbd,host=127.0.0.1,port=$port,export=vm,tls-creds=t" >"$work/out" 2>&1 && fail "a client of another authority was let in"
if [ -n "$host" ]; then
    nbdinfo "nbd://$host:$port/vm" >/dev/null 2>&1 && fail "let in without TLS"
fi
# --- near its end ---
sluice status >"$work/out" || fail "status: $(cat "$work/out")"
grep -q certificate "$work/out" && fail "status warns of a good certificate: $(cat "$work/out")"
rm "$pki/gw-a.pem" "$pki/gw-a.key"
sluice_pki issue gw-a --dir "$pki" --days 29 >/dev/null || fail "issue for 29 days"
sluice status >"$work/out" || fail "status: $(cat "$work/out")"
grep -q "certificate ENDS SOON  $pki/gw-a.pem ends on 2" "$work/out" || fail "no warning: $(cat "$work/out")"
rm "$pki/gw-a.pem"
sluice status >"$work/out" || fail "status: $(cat "$work/out")"
grep -q "certificate UNREADABLE  cannot read $pki/gw-a.pem" "$work/out" || fail "no warning: $(cat "$work/out")"
stop

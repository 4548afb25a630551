# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# pair-functions.sh: sourced after functions.sh: two gateways, gw-a and gw-b, that know each other.  Each lives
# under $work/NAME with its configuration in $work/NAME/etc.
#
#   make_pair [TEXT]       authority, certificates and configurations; TEXT goes into both gateway.yaml
#   pair_disk NAME         its policy, from standard input, on both; @HERE@ is the gateway's folder
#   pair_serve NAME        starts it and waits until it answers; $work/NAME/pid is its process
#   pair_kill NAME [SIG]   ends it; KILL by default
#   on NAME VERB ARGS...   the command line at that gateway
#   are_connected          both say that they are
#   add_portals            both get one for iSCSI, 127.0.0.1:$iscsi_a and $iscsi_b, and name the other's

pki=$work/pki

issue_certificate() {
    rm -f "$pki/$1.pem" "$pki/$1.key"
    "$sluice_program" pki issue "$1" --dir "$pki" >/dev/null || fail "no certificate for $1"
}

make_pair() {
    "$sluice_program" pki init --dir "$pki" >/dev/null || fail "no authority"
    port_a=$(free_port)
    port_b=$(free_port)
    make_half gw-a "$port_a" gw-b "$port_b" "${1:-}"
    make_half gw-b "$port_b" gw-a "$port_a" "${1:-}"
}

make_half() {
    mkdir -p "$work/$1/etc/disks.d"
    issue_certificate "$1"
    cat >"$work/$1/etc/gateway.yaml" <<END
gateway: $1
state: $work/$1/state
listen:
  nbd: ["unix:$work/$1/nbd.sock"]
  peer: ["127.0.0.1:$2"]
  control: "unix:$work/$1/control.sock"
tls: { ca: $pki/ca.pem, cert: $pki/$1.pem, key: $pki/$1.key }
peers: { $3: { address: "localhost:$4" } }
$5
END
}

pair_disk() {
    cat >"$work/policy"
    for gateway_name in gw-a gw-b; do
        sed "s,@HERE@,$work/$gateway_name,g" "$work/policy" >"$work/$gateway_name/etc/disks.d/$1.yaml"
    done
}

on() {
    at=$work/$1/etc
    verb=$2
    shift 2
    case $verb in
    disk | filter | cache | peer | chat | pairrole | replication)
        noun=$verb verb=$1
        shift
        "$sluice_program" "$noun" "$verb" --config "$at" "$@"
        ;;
    *) "$sluice_program" "$verb" --config "$at" "$@" ;;
    esac
}

half_is_answering() {
    on "$1" status >/dev/null 2>&1
    case $? in 0 | 2) ;; *) return 1 ;; esac
}

pair_serve() {
    "$sluice_program" serve --config "$work/$1/etc" >>"$work/$1/log" 2>&1 &
    echo $! >"$work/$1/pid"
    children="$children $!"
    within 10 half_is_answering "$1" || {
        tail -n 20 "$work/$1/log"
        fail "$1 did not come up"
    }
}

# It may be no child of this shell.
pair_kill() {
    kill -"${2:-KILL}" "$(cat "$work/$1/pid")"
    wait "$(cat "$work/$1/pid")" 2>/dev/null
    ended=$?
    within 60 has_ended "$(cat "$work/$1/pid")" || fail "$1 does not end"
    return $ended
}

is_connected() {
    [ "$(on "$1" status --json | jq -r '.peers[0].state')" = connected ]
}

are_connected() {
    is_connected gw-a && is_connected gw-b
}

add_portals() {
    iscsi_a=$(free_port)
    iscsi_b=$(free_port)
    add_portal gw-a "$iscsi_a" 1 gw-b "$iscsi_b"
    add_portal gw-b "$iscsi_b" 2 gw-a "$iscsi_a"
}

add_portal() { # NAME PORT NUMBER, and the other's
    sed -i "s,^  control:,  iscsi: [\"127.0.0.1:$2\"]\n  control:,
        s/^peers: { $4: { \(.*\) } }/peers: { $4: { \1, iscsi: [\"127.0.0.1:$5\"] } }/" "$work/$1/etc/gateway.yaml"
    echo "iscsi: { portal_group: $3 }" >>"$work/$1/etc/gateway.yaml"
}

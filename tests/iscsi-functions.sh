# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# iscsi-functions.sh: sourced after functions.sh by the tests of the iSCSI target.
#
#   make_iscsi_config [LINES]   like make_config, with a portal
#   $port, $portal              where it is
#   url TARGET [LUN]            the URL of a LUN of `target: TARGET`
prefix=iqn.2024-01.org.sluice

make_iscsi_config() {
    port=$(free_port)
    portal=127.0.0.1:$port
    make_config "${1:-}"
    sed -i "s|^  control:|  iscsi: [\"$portal\"]\n  control:|" "$config/gateway.yaml"
}

url() {
    echo "iscsi://$portal/$prefix:$1/${2:-0}"
}

# secret NAME USER:SECRET
secret() {
    (umask 077; echo "$2" >"$config/$1")
}

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
# replication-functions.sh: sourced after pair-functions.sh: disks that are replicated between gw-a and gw-b, and
# what a test asks about them.
#
#   replicated_disk NAME UUID SIZE OPTIONS   its policy on both; OPTIONS of the filter, comma after each
#   told GATEWAY DISK KEY                    of `replication status`
#   image GATEWAY DISK                       the path of its contents
#   address_at GATEWAY DISK                    its URI
#   are_equal DISK                           both images, byte for byte

stamped=$top_builddir/tests/tools/stamped

replicated_disk() {
    pair_disk "$1" <<END
size: $3
uuid: $2
backing: { file: @HERE@/$1.raw }
filters: [replication: { $4 peer: @PEER@ }]
END
    sed -i 's/@PEER@/gw-b/' "$work/gw-a/etc/disks.d/$1.yaml"
    sed -i 's/@PEER@/gw-a/' "$work/gw-b/etc/disks.d/$1.yaml"
}

told() {
    on "$1" replication status "$2" --json | jq -r ".$3"
}

is_told() {
    [ "$(told "$1" "$2" "$3" 2>/dev/null)" = "$4" ]
}

other_half() {
    case $1 in gw-a) echo gw-b ;; *) echo gw-a ;; esac
}

image() {
    echo "$work/$1/$2.raw"
}

address_at() {
    echo "nbd+unix:///$2?socket=$work/$1/nbd.sock"
}

are_equal() {
    cmp -s "$(image gw-a "$1")" "$(image gw-b "$1")"
}

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Over each kind of backing, what one client writes every other client reads: qemu-img (convert, compare,
# map), qemu-io, nbdcopy, nbdinfo and fio agree on content, size and extents, and so does what lies
# behind.  Backings: a file, NBD (qemu-nbd), iSCSI (tgt), nbdkit's memory, ssh and curl plugins, and an
# NBD server that is killed and comes back in the middle of the copies.
. "${top_srcdir:?}/tests/backing-functions.sh"
. "$top_srcdir/tests/tgt-functions.sh"
. "$top_srcdir/tests/functions.sh"
requires jq nbdkit nbdcopy nbdinfo qemu-nbd qemu-img qemu-io fio ssh-keygen sshd
size=$((24 * 1024 * 1024 + 65536)) # of each disk: no round number

# --- the reference: data, holes, data that is zero, the first and the last byte -----------------------
truncate -s $size "$work/ref"
put() { dd if="$1" of="$work/ref" bs=64k seek="$2" count="$3" conv=notrunc iflag=fullblock status=none; }
put /dev/urandom 0 8
tr '\0' '\132' </dev/zero 2>/dev/null | put /dev/stdin 32 16
put /dev/urandom 100 1
put /dev/urandom 102 1
put /dev/urandom 200 64
put /dev/urandom 384 1

# merged: a client's list of extents as lines "start length zero", neighbours of one kind joined.
merged() {
    jq -r "[.[] | $1] | reduce .[] as [\$s, \$l, \$z] ([]; if length > 0 and .[-1][2] == \$z
        then .[-1][1] += \$l else . + [[\$s, \$l, \$z]] end) | .[] | map(tostring) | join(\" \")"
}
map_by_qemu() { qemu-img map -f raw --output=json "$1" | merged '[.start, .length, .zero]'; }
map_by_libnbd() { nbdinfo --map --json "$1" | merged '[.offset, .length, (.type / 2 | floor % 2 == 1)]'; }
map_by_qemu "$work/ref" >"$work/ref.map"
[ "$(wc -l <"$work/ref.map")" -ge 9 ] || { echo "the file system of $work tells no holes"; exit 77; }
echo "0 $size false" >"$work/no-holes.map"

# --- what every client has to say about a disk that holds the reference --------------------------------
# agree DISK MAP
agree() {
    local uri
    uri=$(uri "$1")
    [ "$(nbdinfo --size "$uri")" = $size ] || fail "$1: nbdinfo says $(nbdinfo --size "$uri") bytes"
    [ "$(qemu-img info -f raw --output=json "$uri" | jq '."virtual-size"')" = $size ] || fail "$1: qemu-img says another size"
    nbdcopy "$uri" "$work/out" && cmp "$work/ref" "$work/out" || fail "$1: nbdcopy reads something else"
    rm "$work/out"
    qemu-img convert -f raw -O raw "$uri" "$work/out" && cmp "$work/ref" "$work/out" || fail "$1: qemu-img convert reads something else"
    rm "$work/out"
    qemu-img compare -q -f raw -F raw "$work/ref" "$uri" || fail "$1: qemu-img compare finds a difference"
    qemu-io -r -f raw -c "read -P 90 2M 1M" -c "read -P 0 512k 1536k" -c "read -P 90 3145727 1" -c "read -P 0 3M 3M" "$uri" \
        >"$work/qemu-io" || fail "$1: qemu-io: $(cat "$work/qemu-io")"
    ! grep -i fail "$work/qemu-io" || fail "$1: qemu-io reads something else"
    map_by_qemu "$uri" >"$work/qemu.map"
    map_by_libnbd "$uri" >"$work/libnbd.map"
    diff "$work/qemu.map" "$work/libnbd.map" || fail "$1: qemu-img and nbdinfo see other extents"
    diff "$2" "$work/qemu.map" || fail "$1: the extents are not those of the backing"
    echo "$1: all agree after $SECONDS s"
}

# check_by_fio DISK: leaves it full of fio's blocks, which the reference has to replace, with its holes.
check_by_fio() {
    fio --name="$1" --ioengine=nbd --uri="$(uri "$1")" --rw=randwrite --bs=16k --size=$size \
        --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --output-format=json \
        --output="$work/fio.json" >"$work/fio.log" 2>&1 || fail "$1: fio: $(cat "$work/fio.log" "$work/fio.json")"
    jq -e '.jobs[0] | .error == 0 and .read.io_bytes == .write.io_bytes and .read.io_bytes >= '$size' / 2' "$work/fio.json" \
        >/dev/null || fail "$1: fio has not done what it should: $(jq -c '.jobs[0] | [.error, .read, .write]' "$work/fio.json")"
}
written_by_nbdcopy() { nbdcopy --flush "$work/ref" "$(uri "$1")" || fail "$1: nbdcopy cannot write"; }
written_by_qemu() { qemu-img convert -n -f raw -O raw "$work/ref" "$(uri "$1")" || fail "$1: qemu-img cannot write"; }

# --- the servers ---------------------------------------------------------------------------------------
is_there() { test -S "$dir/$1.sock"; }
for image in nbd.raw ssh.raw dies.raw lun; do truncate -s $size "$dir/$image"; done
server nbd qemu-nbd -t -f raw --discard=unmap -k "$dir/nbd.sock" "$dir/nbd.raw"
start_dies() {
    rm -f "$dir/dies.sock"
    server dies nbdkit -f -U "$dir/dies.sock" --filter=rate file "$dir/dies.raw" rate="$pace" burstiness=0.1
}
pace=16M # bits a second: a copy takes three seconds
start_dies
start_tgtd
mkdir "$dir/www"
cp --sparse=always "$work/ref" "$dir/www/image"
http_port=$(free_port)
server http "$python" "$top_srcdir/tests/range-http-server.py" "$http_port" "$dir/www"
start_sshd
within 20 is_listening "$http_port" || fail "no web server"
within 20 is_there nbd || fail "no qemu-nbd"
within 20 is_there dies || fail "no nbdkit"

# --- the gateway ------------------------------------------------------------------------------------------
make_config
with="filters: [ { qos: { iops: 100000 } }, { passthru: {} } ]"
disk file <<<"{ size: $((size / 1024))KiB, backing: { file: $dir/file.raw }, $with }"
disk nbd <<<"{ backing: { nbd: 'nbd+unix:///?socket=$dir/nbd.sock' }, $with }"
disk dies <<<"{ backing: { nbd: 'nbd+unix:///?socket=$dir/dies.sock' }, $with }"
disk iscsi <<<"{ backing: { iscsi: 'iscsi://$portal/$iqn/1' }, $with }"
disk memory <<<"{ backing: { nbdkit: { plugin: memory, args: { size: '$size' } } }, $with }"
disk curl <<<"{ read_only: true, backing: { nbdkit: { plugin: curl, args: { url: 'http://127.0.0.1:$http_port/image' } } }, $with }"
disk ssh <<<"{ backing: { nbdkit: { plugin: ssh, args: { host: 127.0.0.1, port: '$ssh_port', path: $dir/ssh.raw, user: root, identity: $dir/user, known-hosts: $dir/known } } }, $with }"
serve
echo "all served after $SECONDS s"

# What lies behind is compared without us as well.
behind() { cmp "$work/ref" "$1" || fail "$1 itself is something else"; }
check_by_fio file
written_by_nbdcopy file
agree file "$work/ref.map"
behind "$dir/file.raw"
check_by_fio nbd
written_by_qemu nbd
agree nbd "$work/ref.map"
behind "$dir/nbd.raw"
check_by_fio iscsi
written_by_nbdcopy iscsi
agree iscsi "$work/ref.map"
behind "$dir/lun"
check_by_fio memory
written_by_qemu memory
agree memory "$work/ref.map"
# A server by sftp tells no holes.
check_by_fio ssh
written_by_nbdcopy ssh
agree ssh "$work/no-holes.map"
behind "$dir/ssh.raw"
agree curl "$work/no-holes.map"
qemu-io -f raw -c "write 0 4k" "$(uri curl)" >"$work/refused" 2>&1 && fail "a disk on a web server was written: $(cat "$work/refused")"

# --- killed and back in the middle of copies ----------------------------------------------------------------
blocks() { stat -c %b "$1" 2>/dev/null || echo 0; }
has_grown() { [ "$(blocks "$1")" -gt "$grown_from" ]; }
# kills_amid FILE COPY: three times, whenever the file that grows has grown.
kills_amid() {
    local copy=$2 i
    for i in 1 2 3; do
        grown_from=$(blocks "$1")
        within 30 has_grown "$1" || fail "the copy stands still before kill $i"
        kill -0 "$copy" 2>/dev/null || fail "the copy was over before kill $i"
        kill_server dies
        start_dies
    done
    wait "$copy" || fail "the copy failed: $(cat "$work/copy.log")"
}
few="--requests=4 --request-size=65536"
# shellcheck disable=SC2086
nbdcopy $few --flush "$work/ref" "$(uri dies)" >"$work/copy.log" 2>&1 &
kills_amid "$dir/dies.raw" $!
behind "$dir/dies.raw"
# shellcheck disable=SC2086
nbdcopy $few "$(uri dies)" "$work/amid" >"$work/copy.log" 2>&1 &
kills_amid "$work/amid" $!
cmp "$work/ref" "$work/amid" || fail "what was read amid kills is something else"
reconnects=$(sluice disk show dies --json | jq .backing.reconnects)
[ "$reconnects" -ge 6 ] || fail "the gateway counts only $reconnects reconnects"
pace=1G
kill_server dies
start_dies
agree dies "$work/ref.map"
stop TERM
echo "$reconnects reconnects; $SECONDS s"

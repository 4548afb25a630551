#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk replicated between two gateways over mutual TLS on the loopback, beside the same disk alone and beside
# QEMU's mirror job in write-blocking mode to an NBD target with mutual TLS and the same certificates.  All are
# loaded in turn by nbd-iops, slice by slice; what is compared are slices of one round.  Activity log hot.
#
# Exits 1 when a promised ratio is missed, 4 KiB random writes:
#     sync (journaled) : QEMU's mirror, depth 1 and 32                  >= 2
#     async            : the disk alone, depth 1                        >= 0.9
#     async            : the disk alone, depth 32, on shared cores      >= 0.45
#     async            : the disk alone, depth 32, with the link cut    >= 0.9
# and of other things:
#     a whole disk sent : the lesser of plain TLS and half of what a file of the target takes    >= 0.8
#     1 s : from the order to promote by force, the primary killed, to the first write answered  >= 1
# A longer line is that of bench-replication-line.
#
# PAIRS (21)           rounds: slices of each server
# SECONDS_EACH (0.2)   the length of a slice
# BENCH_DIR, SIZE      see bench-functions.sh (SIZE: 64M)
# BULK (512M)          the disk that is sent whole
: "${SIZE:=64M}" "${BULK:=512M}" "${PAIRS:=21}" "${SECONDS_EACH:=0.2}"
. "${top_srcdir:-.}/tests/bench/bench-functions.sh"
. "$top_srcdir/tests/pair-functions.sh"
. "$top_srcdir/tests/replication-functions.sh"
requires qemu-storage-daemon qemu-img qemu-io python3

# --- ours ---
make_pair
replicated_disk sync 2f000000-0000-4000-8000-000000000001 "${SIZE}iB" ""
replicated_disk async 2f000000-0000-4000-8000-000000000002 "${SIZE}iB" "mode: async,"
replicated_disk bulk 2f000000-0000-4000-8000-000000000003 "${BULK}iB" ""
printf 'size: %siB\nbacking: { file: %s/gw-a/alone.raw }\n' "$SIZE" "$work" >"$work/gw-a/etc/disks.d/alone.yaml"
is_streaming() {
    is_told gw-a "$1" link streaming
}
pair_serve gw-a
pair_serve gw-b
within 10 are_connected || fail "no connection"
for disk in sync async bulk; do
    on gw-a replication promote $disk --force >/dev/null || fail "$disk cannot be promoted"
    within 20 is_streaming $disk || fail "$disk is not replicated"
done

# --- QEMU's ---
for end in client server; do
    mkdir "$work/$end"
    cp "$pki/ca.pem" "$work/$end/ca-cert.pem"
done
cp "$pki/gw-a.pem" "$work/client/client-cert.pem"
cp "$pki/gw-a.key" "$work/client/client-key.pem"
cp "$pki/gw-b.pem" "$work/server/server-cert.pem"
cp "$pki/gw-b.key" "$work/server/server-key.pem"
truncate -s "$SIZE" "$work/source.raw" "$work/target.raw"
port=$(free_port)
qemu-nbd -t -e 8 -f raw -b 127.0.0.1 -p "$port" --object "tls-creds-x509,id=tls,dir=$work/server,endpoint=server,verify-peer=on" \
    --tls-creds tls "$work/target.raw" >>"$work/log" 2>&1 &
children="$children $!"
is_listening() {
    python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])))' "$port" 2>/dev/null
}
within 10 is_listening || fail "qemu-nbd did not come up"
peer qemu qemu-storage-daemon --object "tls-creds-x509,id=tls,dir=$work/client,endpoint=client" \
    --blockdev "driver=file,node-name=source,filename=$work/source.raw" \
    --chardev "socket,id=qmp,path=$work/qmp.sock,server=on,wait=off" --monitor chardev=qmp \
    --nbd-server "addr.type=unix,addr.path=$work/qemu.sock" --export type=nbd,id=export,node-name=source,name=,writable=on
timeout 60 python3 - "$work/qmp.sock" "$port" <<'END' || fail "QEMU's mirror is not ready"
import json, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
lines = link.makefile("rw")
def say(execute, **arguments):
    lines.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if "error" in answer:
            sys.exit(answer["error"]["desc"])
        if "return" in answer:
            return
lines.readline()
say("qmp_capabilities")
say("blockdev-add", **{"driver": "nbd", "node-name": "target", "tls-creds": "tls", "tls-hostname": "gw-b",
    "server": {"type": "inet", "host": "127.0.0.1", "port": sys.argv[2]}})
say("blockdev-mirror", **{"job-id": "mirror", "device": "source", "target": "target", "sync": "full",
    "copy-mode": "write-blocking"})
while True:
    event = json.loads(lines.readline())
    if event.get("event") == "BLOCK_JOB_READY":
        break
    if event.get("event") == "BLOCK_JOB_COMPLETED":
        sys.exit("the mirror job ended: %r" % event["data"].get("error"))
END

# The first copy has read our images whole, which leaves large folios in the page cache, and writes of 4 KiB into
# such are several times as slow on ext4 with many kernels: all begin without a page of their images.
for path in "$work"/gw-?/*.raw "$work"/*.raw; do
    dd of="$path" oflag=nocache conv=notrunc,fdatasync count=0 2>/dev/null
done

# --- side by side ---
# measure DEPTH: into $work/result.json
measure() {
    "$nbd_iops" --op randwrite --depth "$1" --rounds "$PAIRS" --seconds "$SECONDS_EACH" alone="$(address_at gw-a alone)" \
        sync="$(address_at gw-a sync)" async="$(address_at gw-a async)" qemu="nbd+unix:///?socket=$work/qemu.sock" \
        >"$work/result.json" || fail "the load failed"
}
table() {
    printf '\n4 KiB random writes, depth %s, %s\n\n' "$1" "$2"
    printf '| server | writes a second | beside the disk alone | beside QEMU | processor time a write of the side that serves, us |\n'
    printf '|---|---|---|---|---|\n'
    for name in alone sync async qemu; do
        printf '| %s | %.0f | %.2f | %.2f | %.1f |\n' $name "$(jq ".$name.requests_a_second[]" "$work/result.json" | median)" \
            "$(ratio requests_a_second $name alone | cut -d' ' -f2)" "$(ratio requests_a_second $name qemu | cut -d' ' -f2)" \
            "$(jq ".$name.cpu_ns_a_request[] / 1000" "$work/result.json" | median)"
    done
}
measure 1
table 1 "linked"
promise sync qemu 2 "depth 1"
promise async alone 0.9 "depth 1"
measure 32
table 32 "linked"
promise sync qemu 2 "depth 32"
promise async alone 0.45 "depth 32, the target on the same processors"
on gw-a replication status async | head -n 1

# --- a whole disk ---
now_ms() {
    echo $(($(date +%s%N) / 1000000))
}
# rate_since MS: of the bulk disk, MiB a second.
rate_since() {
    echo "$(numfmt --from=iec "$BULK") $(($(now_ms) - $1))" | awk '{ print $1 / 1048576 / ($2 / 1000) }'
}
head -c "$(numfmt --from=iec "$BULK")" /dev/urandom >"$work/bulk.raw"
qemu-img convert -n -f raw -O raw "$work/bulk.raw" "$(address_at gw-a bulk)" || fail "the bulk disk cannot be filled"
began=$(now_ms)
dd if="$work/bulk.raw" of="$work/gw-b/plain.raw" bs=1M conv=fdatasync 2>/dev/null
written=$(rate_since "$began")
rm "$work/gw-b/plain.raw" "$work/bulk.raw"
plain=$("$top_builddir/tests/bench/bench-peer" 2>>"$work/log" | sed -n 's/^one way: *plain TLS \([0-9]*\) .*/\1/p')
began=$(now_ms)
on gw-a resync bulk --full >/dev/null || fail "the bulk disk cannot be sent"
sent=$(rate_since "$began")
printf '\n%s sent whole: %.0f MiB a second; plain TLS %.0f; a file of the target, written and synced, %.0f\n' \
    "$BULK" "$sent" "$plain" "$written"
verdict "a whole disk sent : the lesser of plain TLS and half of a file" \
    "$(jq -n "$sent / ([$plain, $written / 2] | min)")" 0.8
is_lonely() {
    is_told gw-a "$1" alone 1
}
pair_kill gw-b
for disk in sync async; do
    within 20 is_lonely $disk || fail "$disk does not go on alone"
done
measure 32
table 32 "the link cut"
promise async alone 0.9 "depth 32, the link cut"

# --- promoted by force ---
pair_serve gw-b
for disk in sync async; do
    within 60 is_streaming $disk || fail "$disk is not replicated again"
done
pair_kill gw-a
began=$(now_ms)
on gw-b replication promote sync --force >/dev/null || fail "cannot be promoted"
qemu-io -f raw -c 'write 0 4k' "$(address_at gw-b sync)" >/dev/null || fail "cannot be written"
took=$(($(now_ms) - began))
printf '\npromoted by force, and a write answered, after %s ms\n' $took
verdict "1 s : promotion by force to the first write" "$(jq -n "1000 / $took")" 1
printf '\n%s rounds of %s s on %s processors\n\n' "$PAIRS" "$SECONDS_EACH" "$(nproc)"
cat "$work/promises"
[ $missed -eq 0 ]

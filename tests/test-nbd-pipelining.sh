#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Requests that come many at once, or cut anywhere, are answered as if each had come alone: over a Unix socket, TCP
# and with both kinds of replies, by a disk that answers at once, one whose filters take their time with some and one
# that waits for its device; a connection that ends amid a request leaves nothing to the next one.  A client may send
# all its window holds before it reads an answer.  And that requests which came together are read together shows in the
# number of read calls: nbdkit alone makes two a write.
. "${top_srcdir:?}/tests/functions.sh"
requires jq python3
: "${BURSTS:=100}" "${SEED:=$RANDOM}"
size=$((8 << 20))
port=$(free_port)
make_config
sed -i "s/^  nbd: .*/  nbd: [\"unix:$(echo "$sock" | sed 's:/:\\/:g')\", \"127.0.0.1:$port\"]/" "$config/gateway.yaml"
for name in a b c; do
    disk $name <<END
size: 8MiB
backing: { file: $work/$name.raw }
filters:
  - passthru: {}
END
done
disk late <<END
size: 8MiB
backing: { file: $work/late.raw }
filters:
  - early: { op: all }
  - delay: { op: all, time: 0s, spread: 1ms }
END
sed 's/early.*/passthru: {}/; s/, spread.*/ }/; s/delay.*/early: { op: read }/' "$config/disks.d/late.yaml" >"$config/disks.d/mixed.yaml"
sed -i 's/late/mixed/' "$config/disks.d/mixed.yaml"
for name in a late; do
    sed "s/$name\.raw/unread-$name.raw/" "$config/disks.d/$name.yaml" >"$config/disks.d/unread-$name.yaml"
done
disk direct <<END
size: 8MiB
backing: { file: $work/direct.raw, direct: true }
END
serve
pipelining() { "$python" "$top_srcdir/tests/nbd-pipelining.py" "$@" $size "$BURSTS" "$SEED" || fail "seed $SEED"; }
pipelining "$sock" a
pipelining "$port" b
BURSTS=$((BURSTS / 4))
for name in late mixed direct; do
    pipelining "$sock" $name
done
for name in unread-a unread-late; do
    "$python" "$top_srcdir/tests/nbd-unread.py" "$sock" $name $size 32 20 "$SEED" || fail "seed $SEED"
done

reads() { awk '$1 == "syscr:" { print $2 }' "/proc/$gateway/io"; }
BURSTS=50 SEED=count
before=$(reads)
pipelining "$sock" c
count=$(($(reads) - before))
echo "$((50 * 32)) writes of 512 bytes in bursts of 32: $count calls that read"
[ "$count" -lt $((50 * 32 / 2)) ] || fail "requests that come together are not read together"
stop TERM

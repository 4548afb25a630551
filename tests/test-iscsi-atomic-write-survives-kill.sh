#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The gateway is killed between the record of a WRITE ATOMIC and its data: after a restart no client, over NBD
# either, ever reads the old bytes, nor half of the new ones; also when the disk is no LUN any more, and then
# the record does not come back over what was written since.  Amid a load of such writes, at any moment, every
# range is as one of them left it.  A replay that fails keeps the disk from all.
. "${top_srcdir:?}/tests/functions.sh"
. "$top_srcdir/tests/iscsi-functions.sh"
requires jq nbdinfo python3
make_iscsi_config
bytes=65536

# lun FILTERS [EXPORT]
lun() {
    disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
$1
export: { iscsi: { ${2:-target: d} } }
END
}
slow="filters: [delay: { op: write, time: 1500ms, declared: true }]"

# A write of 64 KiB of the byte $1 at 0, which never gets its answer.
write_atomic() {
    PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 $python - "$port" "$prefix:d" "$1" $bytes <<'END' &
import struct, sys
from iscsi_initiator import *
port, target, byte, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
i = Initiator(port).login(target, "ImmediateData=Yes", "InitialR2T=No", "FirstBurstLength=262144").settle()
cdb = struct.pack(">BBQHHBB", 0x9C, 0, 0, 0, size // 512, 0, 0)
try:
    i.command(cdb, FINAL | WRITE, size, bytes([byte]) * size)
except (Closed, OSError):
    sys.exit(0)
sys.exit("the write was answered")
END
    writer=$!
}
write_by_nbd() {
    $python -c "import nbd, sys; h = nbd.NBD(); h.connect_uri(sys.argv[1]); h.pwrite(bytes([68]) * $bytes, 0); h.flush()" "$(uri d)"
}
record() { find "$work/state" -name atomic-redo; }
is_recorded() { [ "$(head -c 8 "$(record)" | tr -d '\0' | wc -c)" -gt 0 ]; }
is_not_recorded() { ! is_recorded; }
# What an NBD client reads of the range: the bytes that occur in it, from the first moment on.
reads() {
    $python - "$1" "$(uri d)" $bytes <<'END'
import nbd, sys, time
wanted, uri, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
end, h = time.monotonic() + 20, None
while h is None:
    try:
        h = nbd.NBD()
        h.connect_uri(uri)
    except nbd.Error:
        h = None
        assert time.monotonic() < end, "no NBD"
seen = set(bytes(h.pread(size, 0)))
assert seen == {wanted}, "an NBD client reads %s, not %d" % (sorted(seen)[:4], wanted)
END
}
crash() {
    write_atomic "$1"
    within 10 is_recorded || fail "there is no record of the write"
    [ "$(head -c $bytes "$work/d.raw" | tr -d '\0' | wc -c)" = "$2" ] || fail "the data was there before the kill"
    stop KILL
    wait $writer || fail "the initiator"
}

# The reader is there before the gateway, and the replay takes a second and a half.
lun "$slow"
serve
crash 66 0
reads 66 &
reader=$!
serve
wait $reader || fail "an NBD client saw an unfinished atomic write"
within 10 is_not_recorded || fail "the record is still there"
echo "killed and replayed: NBD clients read the new bytes only"

# No LUN any more: finished as well, and not again later.
crash 67 $bytes
lun "" "enabled: false"
reads 67 &
reader=$!
serve
wait $reader || fail "an NBD client saw an unfinished atomic write where iSCSI is off"
write_by_nbd
stop TERM
lun ""
serve
reads 68 || fail "an old atomic write came back"
stop TERM
echo "without iSCSI: replayed, and not again"

# At any moment: killed amid a load, ROUNDS times (8).
serve
coproc LOAD {
    PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 exec $python "$top_srcdir/tests/iscsi-atomic-load.py" "$port" \
        "$prefix:d" "$(uri d)" "${ROUNDS:-8}" 2>&1
}
load=$LOAD_PID
while read -r line <&"${LOAD[0]}"; do
    case $line in
    kill)
        stop KILL
        serve
        echo >&"${LOAD[1]}"
        ;;
    *) echo "$line" ;;
    esac
done
wait "$load" || fail "a write was not atomic"
write_by_nbd
stop TERM

# It cannot be finished: the disk is not served.
lun "$slow"
serve
crash 69 $bytes
lun "filters: [fail: { op: write, error: 5 }]"
"$sluice_program" serve --config "$config" >>"$work/log" 2>&1 &
gateway=$!
is_refused() { sluice disk show d 2>/dev/null | grep -q "cannot finish an atomic write"; }
within 10 is_refused || fail "the disk is served: $(sluice disk show d)"
! nbdinfo "$(uri d)" >/dev/null 2>&1 || fail "NBD serves a disk with half an atomic write"
stop TERM

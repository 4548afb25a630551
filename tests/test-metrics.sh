#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Metrics are valid Prometheus text, say what `status --json` says, and also name a disk that is down.
. "${top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires python3 qemu-io jq

make_config
truncate -s 1M "$work/a.raw"
disk a.b-c <<END
backing: { file: $work/a.raw }
filters:
  - qos: { iops: 100000 }
  - passthru
END
disk down <<END
backing: { file: $work/nowhere/down.raw }
size: 1MiB
END
serve
qemu-io -f raw "$(uri a.b-c)" -c "write 0 64k" -c "read 0 32k" -c flush >/dev/null || fail "qemu-io"
sluice metrics >"$work/text" || fail "metrics: exit $?"
python3 "$top_srcdir/tests/prometheus.py" <"$work/text" >"$work/samples" || fail "no valid text"
has() { grep -qxF "$1" "$work/samples" || fail "no sample \"$1\" in $(grep "${1%%\{*}" "$work/samples")"; }
has 'sluice_disk_up{disk="a.b-c"} 1'
has 'sluice_disk_up{disk="down"} 0'
has 'sluice_disk_bytes_total{disk="a.b-c",op="write"} 65536'
has 'sluice_disk_bytes_total{disk="a.b-c",op="read"} 32768'
has 'sluice_disk_size_bytes{disk="a.b-c"} 1048576'
! grep -q 'sluice_disk_size_bytes{disk="down"}' "$work/samples" || fail "the size of a disk that is down"
grep -q 'filter="qos"' "$work/samples" || fail "no metric of a filter"
for op in read write flush; do
    sluice status --json >"$work/status"
    has "sluice_disk_requests_total{disk=\"a.b-c\",op=\"$op\"} $(jq ".disks[0].io.operations.$op.requests" "$work/status")"
done
# The parser can fail.
! printf '# HELP x y\n# TYPE x counter\nx 1\n' | python3 "$top_srcdir/tests/prometheus.py" >/dev/null 2>&1 || fail "parser"
! printf 'sluice_x{a="b} 1\n' | python3 "$top_srcdir/tests/prometheus.py" >/dev/null 2>&1 || fail "parser"

# --- without /proc, what it would have told is left out, not negative
stop
grep -q '^sluice_threads [1-9]' "$work/text" && grep -q '^sluice_resident_bytes [1-9]' "$work/text" || fail "no threads, no memory"
unshare -rm mount -t tmpfs none /proc 2>/dev/null || exit 0
cat >"$work/blind" <<'END'
mount -t tmpfs none /proc && exec "$@"
END
unshare -rm sh "$work/blind" "$sluice_program" serve --config "$config" >>"$work/log" 2>&1 &
gateway=$!
within 60 is_answering || fail "no answer without /proc"
sluice metrics >"$work/text" || fail "metrics without /proc: exit $?"
python3 "$top_srcdir/tests/prometheus.py" <"$work/text" >"$work/samples" || fail "no valid text without /proc"
! grep -E '^sluice_(threads|resident_bytes)| -[0-9]' "$work/text" || fail "said without /proc"
has 'sluice_disk_up{disk="a.b-c"} 1'
echo "metrics without /proc: $(wc -l <"$work/samples") samples, none negative"

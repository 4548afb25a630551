#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# `sluice disk show --connect KIND` of an NBD disk is pasted into a client as it stands: whatever the disk is called,
# wherever its socket lies, and whatever kind of address it listens on.
. "${top_srcdir:-.}/tests/functions.sh"
requires qemu-io qemu-system-x86_64 nbdinfo
sock="$work/it's, a <long> & odd%20 way/nbd.sock"
mkdir "${sock%/*}"
make_config
sed -i '/^listen/,$d' "$config/gateway.yaml"
cat >>"$config/gateway.yaml" <<END
listen:
  nbd: ["unix:$sock"]
  control: "unix:$work/control.sock"
END
long=0123456789.of-a-name_as_long_as_it_may_be.0123456789.01234567.1
for name in plain 1st "$long"; do
    disk "$name" <<END
size: 4MiB
backing: { file: $work/$name.raw }
export: { nbd: { tls: off } }
END
done
serve

for name in plain 1st "$long"; do
    sluice disk show "$name" --connect qemu >"$work/qemu" || fail "no options for QEMU"
    # The shell takes them apart, as when they are pasted.
    eval "set -- $(grep -v '^#' "$work/qemu")"
    [ "$1 $3" = "-blockdev -device" ] || fail "not two options: $(cat "$work/qemu")"
    node=$(printf '%s\n' "$2" | sed 's/.*node-name=\([^,]*\),.*/\1/')
    [ "${4#*drive="$node",}" != "$4" ] || fail "the device is on another node: $(cat "$work/qemu")"
    echo quit | timeout 20 qemu-system-x86_64 -M none -nodefaults -display none -S -blockdev "$2" -monitor stdio \
        >"$work/out" 2>&1 || fail "QEMU does not take $2: $(cat "$work/out")"
    ! grep -i 'invalid\|error\|could not' "$work/out" || fail "QEMU does not take $2: $(cat "$work/out")"
    qemu-io --image-opts "$(printf '%s\n' "$2" | sed 's/node-name=[^,]*,//')" -c "write -P 7 1M 4k" >"$work/out" 2>&1 ||
        fail "qemu-io does not take $2: $(cat "$work/out")"

    uri=$(sluice disk show "$name" --connect uri | grep -v '^#') || fail "no URI"
    [ "$(nbdinfo --size "$uri")" = 4194304 ] || fail "nbdinfo does not take $uri"

    sluice disk show "$name" --connect libvirt >"$work/libvirt" || fail "nothing for libvirt"
    $python - "$work/libvirt" "$sock" "$name" <<'END' || fail "libvirt: $(cat "$work/libvirt")"
import sys
import xml.etree.ElementTree
source = xml.etree.ElementTree.fromstring("".join(l for l in open(sys.argv[1]) if l[0] != "#")).find("source")
assert source.find("host").get("socket") == sys.argv[2], source.find("host").get("socket")
assert source.get("name") == sys.argv[3]
END

    eval "set -- $(sluice disk show "$name" --connect nbd-client | grep -v '^#')"
    [ "$1 $2" = "nbd-client -unix" ] && [ "$3" = "$sock" ] && [ "$6" = "$name" ] || fail "nbd-client: $*"
done
stop

# An IPv6 address stands in brackets in a URI, and without in the others.
sed -i "s|nbd: .*|nbd: ['[::1]:10809', '[2001:db8::7]:10810']|" "$config/gateway.yaml"
sluice disk show plain --connect uri >"$work/out" || fail "no URI"
grep -qx 'nbd://\[::1\]:10809/plain' "$work/out" || fail "IPv6: $(cat "$work/out")"
sed -i "s|'\[2001[^]]*\]:10810'|'192.0.2.7:10810'|" "$config/gateway.yaml"
sluice disk show plain --connect uri >"$work/out"
grep -q '192.0.2.7:10810/plain' "$work/out" || fail "IPv4: $(cat "$work/out")"
sluice disk show plain --connect nbd-client | grep -q '^nbd-client ::1 10809 ' || fail "nbd-client over IPv6"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A disk whose newest data is in the cache is not served without it: not when the filter was taken out
# of the policy while the gateway was down, nor without its tier, nor with another disk's.  Taken out
# while the gateway runs, the cache brings everything to the backing first.
PATH=/usr/bin:$PATH # where the distribution has the module of nbdsh
. "${top_srcdir:-.}/tests/functions.sh"
requires jq nbdsh
mkdir "$work/ssd"
make_config "tiers: { ssd0: { path: $work/ssd, size: 64MiB } }"
with_cache() {
    disk d <<END
size: 16MiB
backing: { file: $work/d.raw }
filters:
  - cache: { ram: 1MiB, ssd: { tier: ssd0, size: 8MiB }, destage: { after: 1h } }
END
}
without_cache() {
    printf 'size: 16MiB\nbacking: { file: %s/d.raw }\n' "$work" | disk d
}
must_be_refused() {
    serve
    nbdsh -u "$(uri d)" -c 'h.pread(512, 0)' >/dev/null 2>&1 && fail "served $1"
    sluice status >"$work/status" 2>&1
    grep -q "$2" "$work/status" "$work/log" || fail "does not say why: $(cat "$work/status")"
    stop KILL
    echo "refused $1"
}
with_cache
serve
nbdsh -u "$(uri d)" -c 'h.pwrite(b"x" * 65536, 0); h.flush()'
[ "$(head -c 1 "$work/d.raw")" = x ] && fail "the data is in the backing already; this test shows nothing"
stop TERM
without_cache
must_be_refused "without the filter" "may hold data"
with_cache
mv "$work/ssd" "$work/gone"
must_be_refused "without the tier" "mounted"
mkdir "$work/ssd"
must_be_refused "with an empty tier" "bring it back"
rm -r "$work/ssd"
mv "$work/gone" "$work/ssd"

# Something else in the file's place is refused and not touched.
tier=$(echo "$work"/ssd/d-*.cache)
mv "$tier" "$work/tier"
head -c 8M /dev/zero | tr '\0' z >"$tier"
must_be_refused "with another program's file" "something that is not of a cache"
[ "$(tr -d z <"$tier" | wc -c)" = 0 ] || fail "the other program's file was written to"
mv "$work/tier" "$tier"
serve
nbdsh -u "$(uri d)" -c 'assert h.pread(65536, 0) == b"x" * 65536'

# Another gateway that names the same file does not get it, whoever's it is.
mkdir -p "$work/other/disks.d"
cat >"$work/other/gateway.yaml" <<END
gateway: gw-other
state: $work/other-state
listen: { nbd: ["unix:$work/other.sock"], control: "unix:$work/other-control.sock" }
END
cat >"$work/other/disks.d/o.yaml" <<END
size: 16MiB
backing: { file: $work/o.raw }
filters: [cache: { ssd: { path: "$(echo "$work"/ssd/d-*.cache)", size: 8MiB } }]
END
"$sluice_program" serve --config "$work/other" >"$work/other.log" 2>&1 &
other=$!
children=$other
says_who_has_it() {
    "$sluice_program" status --config "$work/other" 2>/dev/null | grep -q "cache: .*d-.*cache.* in use by"
}
within 20 says_who_has_it || fail "another gateway has the same tier: $("$sluice_program" status --config "$work/other" 2>&1)"
kill -9 "$other"
wait "$other" 2>/dev/null
children=
echo "refused to another gateway"
without_cache
sluice reload || fail "the cache could not be taken out"
[ "$(head -c 1 "$work/d.raw")" = x ] || fail "taken out, and the data is not in the backing"
stop TERM
serve
nbdsh -u "$(uri d)" -c 'assert h.pread(65536, 0) == b"x" * 65536'
stop TERM

# Gone for good, knowingly: the refusal says how much is lost and how to go on, and that counts for this tier alone.
with_cache
serve
nbdsh -u "$(uri d)" -c 'h.pwrite(b"y" * 65536, 0); h.flush()'
stop TERM
rm -r "$work/ssd"
mkdir "$work/ssd"
must_be_refused "without a tier that is gone" "64 KiB of it were on that tier alone at .* given_up: "
digits=$(sed -n 's/.*given_up: "\([0-9a-f]*\)".*/\1/p' "$work/status" | head -n 1)
[ ${#digits} = 16 ] || fail "the refusal does not name the tier: $(cat "$work/status")"
sed -i "s/size: 8MiB }/size: 8MiB, given_up: \"0000000000000001\" }/" "$config/disks.d/d.yaml"
must_be_refused "with another tier given up" "bring it back"
sed -i "s/0000000000000001/$digits/" "$config/disks.d/d.yaml"
serve
nbdsh -u "$(uri d)" -c 'assert h.pread(65536, 0) == b"x" * 65536; h.pwrite(b"z" * 4096, 0); h.flush()' || fail "given up, and not served"
grep -q "the tier $digits is given up" "$work/log" || fail "the log does not say it"
stop KILL
rm -r "$work/ssd"
mkdir "$work/ssd"
must_be_refused "without the tier that came after it" "bring it back"

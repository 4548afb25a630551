#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# sluice-filter.h stands alone, as C11 and as C++20, pedantically, with every compiler there is; and a
# filter written in C++ loads and has the one symbol.
set -eu
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}"
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
header=$top_srcdir/filters

cat >"$work/alone.c" <<'X'
#include "sluice-filter.h"
int alone(void);
int alone(void)
{
    return (int)sizeof(struct sluice_filter);
}
X
cp "$work/alone.c" "$work/alone.cc"

cat >"$work/filter.cc" <<'X'
#include "sluice-filter.h"

#include <atomic>
#include <new>

namespace {

struct Counter {
    sluice_disk *disk;
    std::atomic<uint64_t> seen{0};
};

int open(sluice_disk *disk, const sluice_value *, void **instance, sluice_error *error)
{
    auto *counter = new (std::nothrow) Counter{disk};
    if (!counter)
        return sluice_refuse(disk, error, ENOMEM, "out of memory");
    *instance = counter;
    return 0;
}

void close(void *instance)
{
    delete static_cast<Counter *>(instance);
}

sluice_verdict start(void *instance, sluice_request *, void *)
{
    static_cast<Counter *>(instance)->seen++;
    return sluice_pass_and_tell();
}

sluice_verdict completion(void *, sluice_request *request, void *)
{
    return request->error ? sluice_fail(EIO) : sluice_pass();
}

const sluice_option options[] = {
    {"size", SLUICE_TYPE_SIZE, 0, 0, 0, "1MiB", nullptr, "A size."},
    SLUICE_OPTIONS_END,
};
const sluice_counter counters[] = {{"seen", SLUICE_COUNTER, "", "Seen."}, SLUICE_COUNTERS_END};
const sluice_verb verbs[] = {SLUICE_VERBS_END};

const sluice_filter filter = {
    .struct_size = sizeof(sluice_filter),
    .api_version = SLUICE_FILTER_API_VERSION,
    .name = "counter",
    .version = "1",
    .vendor = "tests",
    .summary = "Written in C++.",
    .filter_class = SLUICE_CLASS_INSPECTION,
    .options = options,
    .counters = counters,
    .verbs = verbs,
    .open = open,
    .close = close,
    .read = SLUICE_HANDLE(start, completion),
    .write = SLUICE_HANDLE(start, completion),
    .flush = SLUICE_PASS_UNSEEN,
    .trim = SLUICE_PASS_UNSEEN,
    .zero = SLUICE_PASS_UNSEEN,
    .extents = SLUICE_PASS_UNSEEN,
    .prefetch = SLUICE_PASS_UNSEEN,
};

} // namespace

SLUICE_FILTER(filter)
X

strict="-Wall -Wextra -Wpedantic -Wshadow -Werror"
compilers=0
try() {
    command -v "$1" >/dev/null 2>&1 || return 0
    compilers=$((compilers + 1))
    "$@"
}

for cc in gcc clang; do
    try $cc -std=c11 $strict -Wstrict-prototypes -I"$header" -c "$work/alone.c" -o "$work/alone.o"
done
for cxx in g++ clang++; do
    try $cxx -std=c++20 $strict -Wno-missing-field-initializers -I"$header" -c "$work/alone.cc" -o "$work/alone.o"
    try $cxx -std=c++20 $strict -Wno-missing-field-initializers -fPIC -shared -fvisibility=hidden -I"$header" \
        "$work/filter.cc" -o "$work/counter.so"
done
[ $compilers -gt 0 ] || {
    echo "needs a compiler, none is installed"
    exit 77
}
[ ! -f "$work/counter.so" ] || nm -D --defined-only "$work/counter.so" | grep -q ' T sluice_filter_table$'

# What the header includes is the standard library and nothing else.
! grep '^#include' "$header/sluice-filter.h" | grep -v '<\(errno\|stdarg\|stdbool\|stddef\|stdint\).h>'

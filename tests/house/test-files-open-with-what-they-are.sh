#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Each file that can hold a comment has the SPDX line among its first three; each C file then has prose that
# says what it is.  One that names its interpreter can be run.  Texts, samples of configuration, templates of others' files and inputs of fuzzers are excepted.
. "$(dirname "$0")/functions.sh"

has_spdx() {
    head -n 3 "$1" | grep -q 'SPDX-License-Identifier: BSD-3-Clause'
}

# has_prose FILE: at least one line of words in a comment right behind the SPDX line.
has_prose() {
    awk 'NR <= 6 && /^( \*|\/\*|#|""")/ && /[A-Za-z`\x27,.]+ [a-z`\x27,.]+ [a-z`\x27,.]+/ && !/SPDX/ { found = 1 } END { exit !found }' "$1"
}

printf '/* SPDX-License-Identifier: BSD-3-Clause */\n#include <stdio.h>\n\nint a;\n' >"$work/bare.c"
if has_prose "$work/bare.c"; then echo "a file without prose is not found"; exit 1; fi

is_runnable() {
    [ "$(head -c 2 "$1")" != '#!' ] || [ -x "$1" ]
}

printf '#!/bin/sh\n' >"$work/idle.sh"
if is_runnable "$work/idle.sh"; then echo "a script that cannot be run is not found"; exit 1; fi

for file in $(sources '*.[ch]' '*.sh' '*.py' '*.awk' '*Makefile*' '*.ac' '*.pc.in' '*.syms' '.ci/*' \
    check quickstart 'packaging/*' 'tests/log-driver'); do
    case $file in tests/fuzz/corpus/* | *.template | packaging/debian/*) continue ;; esac
    has_spdx "$file" || echo "$file: no SPDX line among the first three"
    is_runnable "$file" || echo "$file: names its interpreter, and cannot be run"
    case $file in
    *.[ch] | *.sh | *.py) has_prose "$file" || echo "$file: no opening words" ;;
    esac
done >"$work/wrong"
verdict "$work/wrong"

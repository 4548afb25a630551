#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Each file that can hold a comment has the SPDX line among its first three; each C file then has prose that
# says what it is.  One that names its interpreter can be run.  Texts, samples of configuration, templates of others' files and inputs of fuzzers are excepted.
. "$(dirname "$0")/functions.sh"

# wrong FILE...: what is wrong with them, by one program for all.  Prose is a line of words in a comment, among the
# first six; a script comes out as "script FILE", for the shell to see whether it can be run.
wrong() {
    awk 'BEGIN {
        for (i = 1; i < ARGC; i++) {
            file = ARGV[i]
            spdx = prose = 0
            for (n = 1; n <= 6 && (getline line <file) > 0; n++) {
                if (n == 1 && line ~ /^#!/) print "script " file
                if (line ~ /SPDX/) spdx += n <= 3 && line ~ /SPDX-License-Identifier: BSD-3-Clause/
                else if (line ~ /^( \*|\/\*|#|""")/ && line ~ /[A-Za-z`\x27,.]+ [a-z`\x27,.]+ [a-z`\x27,.]+/) prose++
            }
            close(file)
            if (!spdx) print file ": no SPDX line among the first three"
            if (!prose && file ~ /\.([ch]|sh|py)$/) print file ": no opening words"
        }
    }' "$@" | while read -r word file; do
        case $word in
        script) [ -x "$file" ] || echo "$file: names its interpreter, and cannot be run" ;;
        *) echo "$word $file" ;;
        esac
    done
}

printf '/* SPDX-License-Identifier: BSD-3-Clause */\n#include <stdio.h>\n\nint a;\n' >"$work/bare.c"
printf '#!/bin/sh\n# SPDX-License-Identifier: BSD-3-Clause\n# It has words, and cannot be run.\n' >"$work/idle.sh"
printf '\n\n\n/* SPDX-License-Identifier: BSD-3-Clause */\n/* In the fourth line. */\n' >"$work/late.h"
: >"$work/empty.py"
cat >"$work/expected" <<END
$work/bare.c: no opening words
$work/idle.sh: names its interpreter, and cannot be run
$work/late.h: no SPDX line among the first three
$work/empty.py: no SPDX line among the first three
$work/empty.py: no opening words
END
wrong "$work/bare.c" "$work/idle.sh" "$work/late.h" "$work/empty.py" | diff - "$work/expected" || {
    echo "what is wrong is not found"
    exit 1
}

set --
for file in $(sources '*.[ch]' '*.sh' '*.py' '*.awk' '*Makefile*' '*.ac' '*.pc.in' '*.syms' '.ci/*' \
    check quickstart 'packaging/*' 'tests/log-driver'); do
    case $file in tests/fuzz/corpus/* | *.template | packaging/debian/*) ;; *) set -- "$@" "$file" ;; esac
done
wrong "$@" >"$work/wrong"
verdict "$work/wrong"

#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# lay-out.sh CASES OUT: see split.awk.  All files have mode 0600 unless their case asks for another.
set -eu
umask 077
split=$(dirname "$0")/split.awk
awk -v out="$2" -v folders=1 -f "$split" "$1" | sort -u | tr '\n' '\0' | xargs -0 mkdir -p
awk -v out="$2" -f "$split" "$1"
[ ! -e "$2/finish" ] || sh "$2/finish"

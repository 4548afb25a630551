# SPDX-License-Identifier: BSD-3-Clause
# split.awk: lays out the cases of bad.cases as folders: OUT/NAME/conf/FILE..., OUT/NAME/expect, and
# OUT/names with the cases in order.  lay-out.sh calls it twice: folders=1 only prints the folders
# that are needed; then it writes the files, and into OUT/finish what remains for the shell: modes
# that were asked for, and raw files, whose line is for printf(1) %b.
#
# A case without a gateway.yaml gets one of one line.
function start_file(path, folder) {
    if (file)
        close(file)
    file = path
    folder = path
    sub(/\/[^\/]*$/, "", folder)
    if (folders)
        print folder
    else
        printf "" > file
}
function put(text) {
    if (!folders)
        print text > file
}
function end_case() {
    if (name && !has_gateway) {
        start_file(out "/" name "/conf/gateway.yaml")
        put("gateway: gw")
    }
}
/^=== / {
    end_case()
    name = $2
    has_gateway = 0
    start_file(out "/" name "/conf/.case")
    if (!folders)
        print name > (out "/names")
    next
}
/^--- expect$/ {
    start_file(out "/" name "/expect")
    how = "expect"
    next
}
/^--- [^ ]/ {
    line = substr($0, 5)
    how = ""
    if (match(line, / (raw|absent|0[0-7]+)$/)) {
        how = substr(line, RSTART + 1)
        line = substr(line, 1, RSTART - 1)
    }
    if (line == "gateway.yaml")
        has_gateway = 1
    if (how != "absent")
        start_file(out "/" name "/conf/" line)
    if (how ~ /^0/ && !folders)
        print "chmod " how " '" file "'" > (out "/finish")
    next
}
name == "" || (how == "expect" && $0 == "") { next }
how == "raw" {
    if (!folders)
        print "printf '%b' '" $0 "' > '" file "'" > (out "/finish")
    next
}
{ put($0) }
END { end_case() }

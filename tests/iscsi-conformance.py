#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""iscsi-conformance: libiscsi's test suites (iscsi-test-cu) against targets, a suite a process.

    run ROW FILE SECONDS [--only TEST...|--not TEST...] -- OPTIONS... URL [URL]
                                    MENDED=LIBRARY: a test of MENDABLE that failed runs once more with the library
                                    preloaded, which mends what the tool sends there
    judge EXPECTED FILE...          every test of the tool ran in some row and passed in all where it ran,
                                    but for what EXPECTED names, which must be so
    table NAME=FILE,FILE... ...     Markdown: what came of each suite, target beside target

A result is a line: row, test, verdict (pass, skip, fail, late, mend: passed when mended), what was said.  A test counts as skipped
when the tool says so, though the tool counts it as passed; one that is skipped in every row has not run.

EXPECTED has lines "skip TEST: REASON" (in no row can it run), "part TEST: WORD ..." (it ran, but for a part
whose skip names WORD) and "mend ROW,ROW... TEST: REASON" (the tool asks for what the standard forbids: as it is, the
test fails there; mended, it passes).  None of the families in NO_SKIP may be among the skips."""
import fnmatch
import os
import re
import subprocess
import sys

FAMILY = "ALL"
NO_SKIP = ("CompareAndWrite", "ExtendedCopy", "ReceiveCopyResults", "WriteAtomic*", "Unmap", "WriteSame*",
           "GetLBAStatus", "Sanitize", "ReportSupportedOpcodes", "ReportTargetPortGroups", "Prin*", "Prout*",
           "CHAP")
MENDABLE = ("GetLBAStatus.UnmapSingle", "WriteSame10.UnmapUntilEnd")


def tests_of_tool():
    out = subprocess.run(["iscsi-test-cu", "-l"], capture_output=True, text=True, check=True).stdout
    return [line[len(FAMILY) + 1:] for line in out.split() if re.fullmatch(FAMILY + r"\.[^.]+\.[^.]+", line)]


def verdict_of(said):
    if re.search(r"^ *FAILED$|FAILED$", said, re.M) or "passed" not in said:
        return "fail"
    return "skip" if "[SKIPPED]" in said else "pass"


def sentence_of(said, verdict):
    found = re.findall(r"\[SKIPPED\].*", said) if verdict == "skip" else re.findall(r"^ +\d+\. .*", said, re.M)
    return "; ".join(" ".join(line.split()) for line in found[:2])


def run_process(pattern, seconds, arguments, library=None):
    """What was said of each test that has a result, why others have none, and all that was said."""
    command = ["iscsi-test-cu", "-v", "--test=%s.%s" % (FAMILY, pattern)] + arguments
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                             env=dict(os.environ, LD_PRELOAD=library) if library else None).stdout
    except subprocess.TimeoutExpired as late:
        return {}, "not done in %d s" % seconds, late.stdout or b""
    text = out.decode(errors="replace")
    parts = re.split(r"^  Test: (\S+) \.\.\.", text.split("Run Summary")[0], flags=re.M)
    return {n: said for n, said in zip(parts[1::2], parts[2::2])}, "no verdict", out


def passes_mended(test, seconds, arguments):
    library = os.environ.get("MENDED")
    if not library or test not in MENDABLE:
        return False
    said, _, _ = run_process(test, seconds, arguments, library)
    return verdict_of(said.get(test.split(".")[1], "")) == "pass"


def run(row, path, seconds, chosen, arguments):
    suites = {}
    for test in chosen:
        suites.setdefault(test.split(".")[0], []).append(test)
    whole = tests_of_tool()
    with open(path, "a", encoding="utf-8") as file:
        for suite, wanted in suites.items():
            is_whole = len(wanted) == sum(t.startswith(suite + ".") for t in whole)
            said, otherwise, out = {}, "", b""
            for pattern in [suite] if is_whole else wanted:
                more, otherwise, out = run_process(pattern, seconds, arguments)
                said.update(more)
            for test in wanted:
                text = said.get(test.split(".")[1])
                verdict = "late" if text is None else verdict_of(text)
                sentence = otherwise if text is None else sentence_of(text, verdict)
                if verdict == "fail" and passes_mended(test, seconds, arguments):
                    verdict = "mend"
                print(row, test, verdict, sentence, sep="\t", file=file)
                if verdict in ("fail", "late"):
                    print("%s: %s: %s: %s\n%s" % (row, test, verdict, sentence,
                                                  (text or out.decode(errors="replace"))[-1500:]))


def read_results(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n").split("\t")


def read_expected(path):
    skips, mends, parts = {}, {}, {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            what, _, reason = line.strip().partition(": ")
            words = what.split()
            if not words or words[0].startswith("#"):
                continue
            assert reason, "%s: no reason: %s" % (path, line)
            if words[0] in ("skip", "part"):
                (skips if words[0] == "skip" else parts)[words[1]] = reason
            else:
                assert words[0] == "mend", line
                mends.update({(row, words[2]): reason for row in words[1].split(",")})
    return skips, mends, parts


def is_family(test, families):
    return any(fnmatch.fnmatchcase(test.split(".")[0], family) for family in families)


def judge(expected, paths):
    skips, mends, parts = read_expected(expected)
    wrong, ran, rows, counts = [], set(), set(), {"pass": 0, "skip": 0, "fail": 0, "late": 0, "mend": 0}
    seen_mends = set()
    for row, test, verdict, sentence in read_results(paths):
        rows.add(row)
        counts[verdict] += 1
        if verdict != "skip" or (test in parts and parts[test].split()[0] in sentence):
            ran.add(test)
        if verdict == "mend":
            seen_mends.add((row, test))
        if verdict in ("fail", "late") or (verdict == "mend" and (row, test) not in mends):
            wrong.append("%s: %s: %s: %s" % (row, test, verdict, sentence))
    known = tests_of_tool()
    for test in known:
        if test not in ran and test not in skips:
            wrong.append("%s ran in no row, and is not expected to be skipped" % test)
    wrong += ["%s is expected to be skipped, but ran or is no test" % t for t in skips if t in ran or t not in known]
    wrong += ["%s: %s is expected to need mending, but did not" % m for m in sorted(mends.keys() - seen_mends)]
    wrong += ["%s may not be skipped" % t for t in skips if is_family(t, NO_SKIP)]
    for family in NO_SKIP:
        if not any(is_family(t, [family]) for t in known):
            print("this version of the tool has no test of " + family)
    print("%d rows (%s): %d tests of %d ran; %d verdicts: %d passed, %d skipped, %d failed, %d passed with the tool's fault mended" % (
        len(rows), " ".join(sorted(rows)), len(ran), len(known), sum(counts.values()), counts["pass"],
        counts["skip"], counts["fail"] + counts["late"], counts["mend"]))
    print("\n".join(wrong))
    return 1 if wrong else 0


def best(verdicts):
    """Of one test over all rows: failed anywhere, else ran and passed somewhere, else skipped."""
    names = {"late": "fail", "mend": "pass"}
    for verdict in ("late", "fail", "mend", "pass", "skip"):
        if verdict in verdicts:
            return names.get(verdict, verdict)
    return "skip"


def table(columns):
    names, results = [], []
    for column in columns:
        name, _, paths = column.partition("=")
        names.append(name)
        verdicts = {}
        for _, test, verdict, _ in read_results(paths.split(",")):
            verdicts.setdefault(test, set()).add(verdict)
        results.append({test: best(v) for test, v in verdicts.items()})
    suites = {}
    for test in tests_of_tool():
        suites.setdefault(test.split(".")[0], []).append(test)
    print("| suite | tests | " + " | ".join("%s: passed | failed | skipped" % n for n in names) + " |")
    print("|---|---:|" + "---:|" * 3 * len(names))
    sums = [0] * (1 + 3 * len(names))
    for suite, tests in suites.items():
        numbers = [len(tests)]
        for result in results:
            of_suite = [result.get(t, "skip") for t in tests]
            numbers += [of_suite.count(v) for v in ("pass", "fail", "skip")]
        sums = [a + b for a, b in zip(sums, numbers)]
        print("| %s | %s |" % (suite, " | ".join(map(str, numbers))))
    print("| **all** | %s |" % " | ".join(map(str, sums)))
    return 0


def main(arguments):
    if arguments[0] == "judge":
        return judge(arguments[1], arguments[2:])
    if arguments[0] == "table":
        return table(arguments[1:])
    at = arguments.index("--")
    row, path, seconds, *filters = arguments[1:at]
    chosen = tests_of_tool()
    if filters:
        chosen = [t for t in chosen if any(fnmatch.fnmatchcase(t, f) for f in filters[1:]) == (filters[0] == "--only")]
    run(row, path, float(seconds), chosen, arguments[at + 1:])
    return 0


sys.exit(main(sys.argv[1:]))

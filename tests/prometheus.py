#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# prometheus.py: parses the text format 0.0.4 of Prometheus from standard input, strictly, and prints each
# sample as NAME{LABELS} VALUE.  Names, types, escapes, one HELP and TYPE in front of each metric's samples, all
# of them together, counters end in _total, no sample twice.
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*),?\}})? (\S+)$")
types, helps, seen, done = {}, {}, set(), set()
current = None
text = sys.stdin.buffer.read().decode("utf-8")
assert text.endswith("\n"), "the last line has no end"
for number, line in enumerate(text.splitlines(), 1):
    where = f"line {number}: {line}"
    head = re.match(rf"# (HELP|TYPE) ({NAME}) (.*)$", line)
    if head:
        kind, name, rest = head.groups()
        assert name not in (helps if kind == "HELP" else types), f"repeated {kind}: {where}"
        assert kind == "HELP" or rest in ("counter", "gauge", "summary", "histogram", "untyped"), where
        (helps if kind == "HELP" else types)[name] = rest
        if name != current:
            assert name not in done, f"not together: {where}"
            done.add(name)
            current = name
        continue
    sample = SAMPLE.match(line)
    assert sample, f"no sample: {where}"
    name, value = sample.group(1), sample.groups()[-1]
    base = re.sub(r"_(sum|count|bucket)$", "", name)
    metric = base if types.get(base) in ("summary", "histogram") else name
    assert metric == current, f"not below its TYPE: {where}"
    assert types.get(metric) and helps.get(metric), f"without HELP or TYPE: {where}"
    assert types[metric] != "counter" or name.endswith("_total"), f"a counter without _total: {where}"
    assert name.startswith("sluice_"), f"not ours: {where}"
    labels = re.findall(LABEL, sample.group(2) or "")
    assert len({key for key, _ in labels}) == len(labels), f"a label twice: {where}"
    number = float(value)
    assert types[metric] != "counter" or number >= 0, f"a negative counter: {where}"
    key = (name, tuple(sorted(labels)))
    assert key not in seen, f"a sample twice: {where}"
    seen.add(key)
    print(line)
assert seen, "no samples"

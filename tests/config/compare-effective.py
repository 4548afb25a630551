#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What `check --effective` prints as YAML and as JSON is the same, value by value and place by place.

usage: compare-effective.py DISK-SCHEMA FOLDER...: each has disks.d/NAME.yaml and NAME.json
"""
import glob
import json
import os
import sys

import jsonschema
import yaml

from yaml12 import Loader


def leaves(value, path=""):
    """(path, value) of all that has no parts, in order."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from leaves(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for i, part in enumerate(value):
            yield from leaves(part, f"{path}[{i}]")
    else:
        yield path, value


def without_nothing(tree):
    """A key with nothing below it is null in YAML, and an empty map in JSON: both say nothing."""
    return [(path, None if value == {} else value) for path, value in leaves(tree)]


def origins_of(lines):
    """The comments, in order; the first line is the head."""
    return [line.rsplit(" # ", 1)[1] for line in lines[1:] if " # " in line]


def compare(yaml_file, document):
    """What differs, or None."""
    with open(yaml_file, encoding="utf-8") as file:
        text = file.read()
    read = without_nothing(yaml.load(text, Loader))
    told = without_nothing(document["effective"])
    if read != told:
        return f"{[x for x in read if x not in told]} is told as {[x for x in told if x not in read]}"
    if origins_of(text.splitlines()) != list(document["origins"].values()):
        return f"origins: {document['origins']}"
    paths = {path for path, _ in leaves(document["effective"])}
    lost = [path for path in document["origins"] if not any(p.startswith(path) for p in paths)]
    return f"origins of nothing: {lost}" if lost else None


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    schema = jsonschema.validators.validator_for(schema)(schema)
    compared = failed = 0
    for folder in sys.argv[2:]:
        for name in glob.glob(os.path.join(folder, "*.json")):
            with open(name, encoding="utf-8") as file:
                document = json.load(file)
            disk = document["disk"]
            problem = compare(os.path.join(folder, "disks.d", disk + ".yaml"), document)
            error = problem or next(schema.iter_errors(document["effective"]), None)
            if error:
                print(f"{folder}: disk {disk}: {error}")
                failed += 1
            compared += 1
    print(f"{compared} disks as YAML and as JSON, {failed} differ")
    return 1 if failed or compared < 30 else 0


sys.exit(main())

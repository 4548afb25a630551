#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Hold the JSON Schema against the configurations that `check` has judged.

usage: validate.py SCHEMA-FOLDER CASES-FOLDER CASES-FILE FOLDER...

Every broken case must be refused by the schema too where its line says `schema`, and accepted where
it says `accepts`; the documents of the other folders are good and must be accepted.  YAML is read as
an editor reads it: version 1.2, so that only true and false are booleans.
"""
import glob
import json
import os
import re
import sys

import jsonschema
import yaml

from yaml12 import Loader

def validators(folder):
    made = {}
    for kind in ("gateway", "disk", "policy"):
        with open(f"{folder}/{kind}.schema.json", encoding="utf-8") as file:
            schema = json.load(file)
        jsonschema.Draft7Validator.check_schema(schema)
        made[kind] = jsonschema.Draft7Validator(schema)
    return made


def documents(folder):
    for path in sorted(glob.glob(f"{glob.escape(folder)}/gateway.yaml")):
        yield "gateway", path
    for path in sorted(glob.glob(f"{glob.escape(folder)}/disks.d/*.yaml")):
        yield "disk", path
    for path in sorted(glob.glob(f"{glob.escape(folder)}/policies.d/*.yaml")):
        yield "policy", path


def problems(made, folder):
    for kind, path in documents(folder):
        with open(path, encoding="utf-8") as file:
            document = yaml.load(file, Loader)  # a SafeLoader underneath
        for problem in made[kind].iter_errors(document):
            yield f"{os.path.basename(path)}: {problem.message[:200]}"


def main():
    schema_folder, cases_folder, cases_file, *good = sys.argv[1:]
    made = validators(schema_folder)
    failed = counted = 0
    with open(cases_file, encoding="utf-8") as file:
        cases = [line.split()[1:3] for line in file if line.startswith("=== ")]
    for name, what in cases:
        if what == "yaml":
            continue
        counted += 1
        found = list(problems(made, f"{cases_folder}/{name}/conf"))
        if bool(found) != (what == "schema"):
            print(f"case {name}: the schema should {what}: {found}")
            failed += 1
    for folder in good:
        counted += 1
        for problem in problems(made, folder):
            print(f"{folder}: {problem}")
            failed += 1
    print(f"{counted} cases held against the schema, {failed} not as they should be")
    return 1 if failed or counted < 100 else 0


sys.exit(main())

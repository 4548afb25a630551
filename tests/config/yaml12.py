# SPDX-License-Identifier: BSD-3-Clause
"""YAML as an editor reads it: version 1.2, so that only true and false are booleans."""
import re

import yaml


class Loader(yaml.SafeLoader):
    """YAML 1.2's core schema (10.3.2) in place of 1.1's."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("float", r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
              r"|\.(?:nan|NaN|NAN))$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
):
    Loader.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile(pattern),
                                 list(first) + ([""] if tag == "null" else []))


def make_int(loader, node):
    text = loader.construct_scalar(node)
    if text.startswith(("0o", "0x")):
        return int(text[2:], 8 if text[1] == "o" else 16)
    return int(text)


Loader.add_constructor("tag:yaml.org,2002:int", make_int)
Loader.add_constructor("tag:yaml.org,2002:float",
                       lambda loader, node: float(loader.construct_scalar(node).lower()
                                                  .replace(".inf", "inf").replace(".nan", "nan")))

# SPDX-License-Identifier: BSD-3-Clause
"""Compares what `sluice help` knows with the manual page and with what completion offers, verb by verb and
option by option, both ways; prints each difference and exits 1 when there is one.

usage: cli-words.py SLUICE SLUICE.POD SOURCE..."""
import re
import subprocess
import sys

OF_ALL_VERBS = {"--config", "--help"}
OPTION = re.compile(r"--[a-z][a-z-]*")


def run(*arguments):
    return subprocess.run([sys.argv[1], *arguments], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout


def from_help():
    """A verb's usage is indented by two, its first words are the verb; all other lines are prose."""
    verbs = {}
    for usage in re.findall(r"^  sluice (.*)$", run("help"), re.M):
        name = re.match(r"[a-z]+( [a-z]+(?= |$))?", usage).group()
        verbs[name] = set(OPTION.findall(usage)) - OF_ALL_VERBS
    return verbs


def from_manual(path):
    text = open(path, encoding="utf8").read()
    sections = re.split(r"^=head2 ", re.search(r"^=head1 VERBS\n(.*?)^=head1", text, re.M | re.S).group(1), flags=re.M)
    return {name.strip(): set(re.findall(r"B<(--[a-z-]+)>", prose)) - OF_ALL_VERBS
            for name, _, prose in (section.partition("\n") for section in sections[1:])}


def from_completion():
    verbs = {}
    for word in run("--complete", "").split():
        for second in run("--complete", word, "").split() or [""]:
            name = f"{word} {second}".strip()
            offered = set(run("--complete", *name.split(), "--").split())
            if not OF_ALL_VERBS <= offered:
                print(f"completion of {name} lacks {OF_ALL_VERBS - offered}")
            verbs[name] = offered - OF_ALL_VERBS
    return verbs


def compare(one, one_name, other, other_name):
    for verb in sorted(one):
        if verb not in other:
            yield f'verb "{verb}" stands in {one_name} and not in {other_name}'
        for option in sorted(one[verb] - other.get(verb, set())):
            yield f'option {option} of "{verb}" stands in {one_name} and not in {other_name}'


def main():
    verbs, manual, offered = from_help(), from_manual(sys.argv[2]), from_completion()
    differences = [line for a, b in (((verbs, "help"), (manual, "the manual")), ((verbs, "help"), (offered, "completion")))
                   for line in [*compare(*a, *b), *compare(*b, *a)]]
    known = set().union(*verbs.values()) | OF_ALL_VERBS
    for path in sys.argv[3:]:
        for option in re.findall(r'cli_take_\w+\(\w+, "(--[a-z-]+)"', open(path, encoding="utf8").read()):
            if option not in known:
                differences.append(f"{path} takes {option}, which help does not know")
    print("\n".join(differences) or
          f"{len(verbs)} verbs and {sum(map(len, verbs.values()))} options in help, manual and completion")
    sys.exit(1 if differences or len(verbs) < 2 else 0)


main()

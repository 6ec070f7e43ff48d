"""From words to the options of a command: everything follows from ``chainrule.commands``. Imports nothing heavy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from chainrule.commands import COMMANDS
from chainrule.options import Option, Options, make, near, options_of, refusal

STDIN = Path("-")
"""Stands for standard input where a file or texts are expected."""
DESCRIPTION = "Train, compare and use sequence models on your own data, from a Markov chain to a Transformer."


class Usage(Exception):
    """A command line that cannot be understood; one line, exit status 2."""


class Shown(Exception):
    """Help or the version was printed: there is nothing left to do."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message} (see: {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise Shown


def parse(words: Sequence[str]) -> tuple[Options, bool]:
    """The options of the command that ``words`` name, and whether it is to answer in JSON.

    Raises:
        Usage: a command, an option or a value that does not exist, or one that is missing.
        Shown: the words asked for help or the version, which was printed.
    """
    if not words or words[0] in ("--help", "-h"):
        print(overview())
        raise Shown
    if words[0] == "--version":
        from chainrule import __version__

        print(__version__)
        raise Shown
    name, rest = (" ".join(words[:2]), words[2:]) if list(words[:2]) == ["data", "make"] else (words[0], words[1:])
    if name not in COMMANDS:
        if name.startswith("-"):
            raise Usage(f"{name}: a command comes first (see: chainrule --help)")
        raise Usage(f"unknown command '{name}': {near(name, COMMANDS)}")
    return parse_options(COMMANDS[name], rest)


def parse_options(command: type[Options], words: Sequence[str]) -> tuple[Options, bool]:
    """The options of one command from the words that follow its name."""
    parser = parser_of(command)
    words = _joined(parser, words)
    refuse_unknown(command, parser, words)
    values = vars(parser.parse_intermixed_args(words))  # FILE may stand behind options
    as_json = values.pop("json")
    for o in options_of(command):
        if o.about.get("stdin") and values.get(o.name) in (None, []):
            values[o.name] = STDIN
    try:
        return make(command, values), as_json
    except TypeError as error:
        raise Usage(f"{error} (see: {parser.prog} --help)") from None


def parser_of(command: type[Options]) -> Parser:
    """The argparse parser of one command."""
    help = argparse.HelpFormatter
    parser = Parser(
        prog=f"chainrule {command.command}", description=command.__doc__, formatter_class=help, allow_abbrev=False
    )
    groups: dict[str | None, Any] = {None: parser}
    for o in options_of(command):
        group = o.about.get("group")
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        _add(groups[group], o)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on standard output and nothing else there"
    )
    return parser


def _add(group: Any, o: Option) -> None:
    about: dict[str, Any] = {"help": o.help.replace("%", "%%")}
    if o.kind is bool:
        group.add_argument(o.flag, dest=o.name, action="store_true", **about)
        return
    choices = o.about.get("choices")
    metavar = o.about.get("metavar") or ("|".join(choices) if choices else None)
    about |= {"metavar": metavar} if metavar else {}
    if o.flag is None:
        nargs = o.about.get("nargs") or ("?" if o.about.get("stdin") else None)
        action = group.add_argument(o.name, nargs="+" if nargs == "*" else nargs, **about)
        action.required = nargs is None  # nargs="*" would allow arguments before flags only
        if nargs == "*":
            action.default = []
        return
    many = {"action": "append", "default": []} if o.many or o.about.get("many") else {"type": o.kind}
    group.add_argument(o.flag, dest=o.name, required=o.required or bool(o.about.get("required")), **many, **about)


def refuse_unknown(command: type[Options], parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Raises Usage for the first word that is an option which the command does not have, as argparse tells options."""
    known = {flag for action in parser._actions for flag in action.option_strings}
    for word in words:
        if word == "--":
            return
        if not word.startswith("-") or word == "-" or " " in word or re.fullmatch(r"-\d+|-\d*\.\d+", word):
            continue
        flag = word.partition("=")[0]
        if flag not in known and not (not word.startswith("--") and word[:2] in known):
            raise Usage(f"{refusal(command, flag)} (see: {parser.prog} --help)")


def _joined(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """``--columns -,text`` and ``--budget -5s`` as one word: argparse takes what begins with a dash for an option."""
    valued = {flag for action in parser._actions if action.nargs != 0 for flag in action.option_strings}
    joined = list(words)
    for k in range(len(joined) - 1, 0, -1):
        if joined[k - 1] in valued and re.match(r"-,|-\.?\d", joined[k]) and joined[k - 1].startswith("--"):
            joined[k - 1 : k + 1] = [f"{joined[k - 1]}={joined[k]}"]
    return joined


def overview() -> str:
    """``chainrule --help``."""
    rows = [f"    {name:<10} {kind.__doc__}" for name, kind in COMMANDS.items() if " " not in name]
    return "\n".join(
        [
            "usage: chainrule COMMAND …",
            "",
            DESCRIPTION,
            "",
            "commands:",
            *rows,
            "",
            "options:",
            "    -h, --help  this overview; chainrule COMMAND --help for the options of a command",
            "    --version   the version",
        ]
    )

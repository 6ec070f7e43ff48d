"""Parse the words of a command line into the options of a command. Nothing heavy is imported."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from chainrule.commands import COMMANDS
from chainrule.core.errors import UserError, nearest
from chainrule.core.plugin import run_plugin
from chainrule.core.task_registry import load_entry_points
from chainrule.options import SECTIONS, Option, Options, make, options_of, refusal

STDIN = Path("-")
"""Stands for standard input in place of a file or of texts."""
FORMATS = ("", "json", "json-lines")
"""Ways to print an answer: for people, as one JSON object, as a JSON object for each line of the input."""
DESCRIPTION = "Train, compare and use sequence models on your own data, from a Markov chain to a Transformer."


class Usage(Exception):
    """A command line that cannot be understood; one line, exit status 2."""


class Shown(Exception):
    """Help or the version was printed: there is nothing left to do."""


class Help(argparse.HelpFormatter):
    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """Show in brackets what may be left out, such as texts that standard input replaces."""
        if action.nargs == "+" and not action.option_strings and not action.required:
            return f"[{action.metavar or action.dest} ...]"
        return super()._format_args(action, default_metavar)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"{message} (see: {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise Shown


def parse(words: Sequence[str]) -> tuple[Options, str]:
    """Return the options of the command that ``words`` name, and how it answers: one of ``FORMATS``.

    Raises:
        Usage: a command, an option or a value that does not exist, or one that is missing.
        Shown: the words asked for help or the version, which was printed.

    Examples:
        >>> options, form = parse(["predict", "my-run", "--top-k", "3", "--json"])
        >>> options.run, options.top_k, form
        ('my-run', 3, 'json')
    """
    if not words or {"--help", "-h"} & {words[0], *(words[2:3] if words[0] == "--plugin" else ())}:
        _load_more(words)
        print(overview())
        raise Shown
    if words[0] == "--version":
        from chainrule import __version__

        print(__version__)
        raise Shown
    two = " ".join(words[:2])
    name, rest = (two, words[2:]) if two in COMMANDS else (words[0], words[1:])
    if name.startswith("-"):
        raise Usage(f"{name}: a command comes first (see: chainrule --help)")
    if name not in COMMANDS:
        _load_more(rest)
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS)
        own = "; a command of your own needs --plugin FILE.py (see: chainrule --help)"
        raise Usage(f"unknown command '{name}': {hint}{own if hint.startswith('allowed') else ''}")
    return parse_options(COMMANDS[name], rest)


def _load_more(words: Sequence[str] = ()) -> None:
    """Load the commands of installed packages and of the plugin that ``words`` name."""
    load_entry_points()
    given = [w.removeprefix("--plugin=") for v, w in zip(["", *words], words) if "--plugin" in (v, w.partition("=")[0])]
    try:
        if given:
            run_plugin(Path(given[-1]))
    except UserError as error:
        raise Usage(str(error)) from None


def parse_options(command: type[Options], words: Sequence[str]) -> tuple[Options, str]:
    """Return the options of one command, from the words that follow its name, and how it answers."""
    parser = parser_of(command)
    words = _joined(parser, words)
    refuse_unknown(command, parser, words)
    values = vars(parser.parse_intermixed_args(words))  # FILE may follow options
    form = values.pop("json")
    for o in options_of(command):
        if o.about.get("stdin") and values.get(o.name) in (None, []):
            values[o.name] = STDIN
    try:
        return make(command, values), form
    except TypeError as error:
        raise Usage(f"{error} (see: {parser.prog} --help)") from None


def parser_of(command: type[Options]) -> Parser:
    """Return the argparse parser of one command."""
    parser = Parser(
        prog=f"chainrule {command.command}", description=command.__doc__, formatter_class=Help, allow_abbrev=False
    )
    groups: dict[str | None, Any] = {None: parser}
    for o in options_of(command):
        group = o.about.get("group")
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        _add(groups[group], o)
    forms = parser.add_mutually_exclusive_group()
    told = {"json": "print one JSON object on standard output and nothing else there"}
    if command.by_line:
        told["json-lines"] = "print one JSON object for each line of the input, in order, as they are answered"
    for form, help in told.items():
        forms.add_argument(f"--{form}", dest="json", action="store_const", const=form, default="", help=help)
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
        action = group.add_argument(o.name, nargs="+" if nargs == "*" else nargs, type=o.kind, **about)
        action.required = nargs in (None, "+")  # nargs="*" would allow arguments before flags only
        if nargs == "*":
            action.default = []
        return
    many = {"action": "append", "default": []} if o.many or o.about.get("many") else {"type": o.kind}
    group.add_argument(o.flag, dest=o.name, required=o.required or bool(o.about.get("required")), **many, **about)


def refuse_unknown(command: type[Options], parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Raise Usage for the first option, as argparse recognises options, that the command does not have."""
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
    """Return the words with ``--columns -,text`` as one word: argparse would take ``-,text`` for an option."""
    valued = {flag for action in parser._actions if action.nargs != 0 for flag in action.option_strings}
    joined = list(words)
    for k in range(len(joined) - 1, 0, -1):
        if joined[k - 1] in valued and re.match(r"-,|-\.?\d", joined[k]) and joined[k - 1].startswith("--"):
            joined[k - 1 : k + 1] = [f"{joined[k - 1]}={joined[k]}"]
    return joined


def overview() -> str:
    """Return the text of ``chainrule --help``."""
    lines = ["usage: chainrule COMMAND …", "", DESCRIPTION]
    width = max(len(name) for name in COMMANDS if " " not in name) + 1
    for section in SECTIONS:
        listed = [kind for name, kind in COMMANDS.items() if kind.section == section and " " not in name]
        lines += ["", f"{section}:", *(f"    {kind.command:<{width}} {kind.__doc__}" for kind in listed)]
    return "\n".join(
        [
            *lines,
            "",
            "options:",
            "    -h, --help  this overview; chainrule COMMAND --help for the options of a command",
            "    --version   the version",
        ]
    )

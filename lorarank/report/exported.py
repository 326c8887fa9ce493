"""A configuration for a tool as text: Python, YAML or a command, with its notes as comments (floor 4)."""

from __future__ import annotations

import dataclasses
import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

from lorarank.adapters.patterns import first_matches
from lorarank.errors import printable
from lorarank.export import Call, Exported, Script
from lorarank.export.options import NAMES
from lorarank.report import python_text
from lorarank.report.json_text import as_json
from lorarank.report.plain import Records, Sheet

LINE = 100
"""Columns of a comment."""

SEQUENCE = "tag:yaml.org,2002:seq"


def to_text(found: Exported, *, command: Sequence[str] = ()) -> str:
    """The whole file; ``command`` is what was run.

    >>> from lorarank.export import Settings
    >>> settings = Settings("a", "adapter", None, {"r": 8}, ())
    >>> print(to_text(Exported("mlx", settings, {"lora_parameters": {"rank": 8}}, ("One note.",))), end="")
    # For MLX-LM.
    # One note.
    <BLANKLINE>
    lora_parameters:
      rank: 8
    """
    made = f", made by lorarank {found.lorarank}: {shlex.join(command)}" if command else "."
    head = [f"For {NAMES[found.tool]}{made}", *found.notes]
    return "\n\n".join(("\n".join(map(comment, head)), _body(found.document))) + "\n"


def lay(page: Sheet, found: Exported) -> None:
    """Where it comes from, and the text."""
    page.head(f"For {NAMES[found.tool]}: r = {found.settings.r}.", good=True)
    page.facts([("from", printable(found.settings.source)), ("kind", found.settings.kind)])
    if found.notes:
        page.section("Notes", [printable(note, 2000) for note in found.notes])
    page.code("To paste", to_text(found))


def to_json(found: Exported, *, command: Sequence[str] = ()) -> str:
    """The settings in PEFT's names, and ``text`` in the tool's, as JSON with sorted keys."""
    plain = {"tool": found.tool, "settings": dataclasses.asdict(found.settings), "notes": found.notes}
    text = to_text(found, command=command)
    known = {"text": text, "command": list(command), "schema": found.schema, "lorarank": found.lorarank}
    return as_json(plain | known)


def rows(found: Exported) -> Records:
    """One row per module: what it gets."""
    lora, modules = found.settings.lora, found.settings.modules
    columns = []
    for field, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        own = lora.get(pattern, {})
        keys = first_matches(list(own), modules, pattern)
        columns.append([own[keys[module]] if module in keys else lora[field] for module in modules])
    return Records(("module", "r", "lora_alpha"), tuple(zip(modules, *columns, strict=True)))


def comment(sentence: str) -> str:
    """Lines that begin with ``#``; nothing in a name can end one."""
    lines = textwrap.wrap(
        printable(sentence, 2000), LINE - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(f"# {line}" for line in lines)


def _body(document: Any) -> str:
    if isinstance(document, Script):
        return _python(document)
    if isinstance(document, tuple):
        return " ".join(map(shell_word, document))
    return to_yaml(document)


def shell_word(word: str) -> str:
    r"""A word of a command for bash or zsh; what is not printable is escaped.

    >>> print(shell_word("a b"), shell_word("a\x1bb"))
    'a b' $'a\u001bb'
    """
    if word.isprintable():
        return shlex.quote(word)
    plain = (c if c.isprintable() and c not in "\\'" else f"\\U{ord(c):08x}" for c in word)
    return "$'" + "".join(plain).replace("\\U0000", "\\u") + "'"


def _python(script: Script) -> str:
    imports = "\n".join(script.imports)
    calls = "\n".join(map(_call, script.calls))
    after = "\n".join(map(comment, script.after))
    return "\n\n".join(part for part in (imports, calls, after) if part)


def _call(one: Call) -> str:
    short = [python_text.literal(value) for value in one.positional]
    short += [f"{name}={python_text.literal(value)}" for name, value in one.arguments.items()]
    line = f"{one.target} = {one.function}({', '.join(short)})"
    if len(line) <= LINE:
        return line
    return f"{one.target} = " + python_text.call(one.function, one.arguments, one.positional)


def to_yaml(document: Any) -> str:
    """YAML in the order given, one key per line, lists on one line where they fit.

    >>> print(to_yaml({"lora_target_modules": ["q_proj"], "optimizer": {"lr": 1e-05}}))
    lora_target_modules: [q_proj]
    optimizer:
      lr: 1.0e-05
    """
    import yaml  # a Python script can do without

    dumper: Any = type("Dumper", (yaml.SafeDumper,), {})  # with lists in brackets
    dumper.add_representer(list, lambda self, value: self.represent_sequence(SEQUENCE, value, flow_style=True))
    text: str = yaml.dump(document, Dumper=dumper, sort_keys=False, default_flow_style=False, width=LINE)
    return text.rstrip("\n")

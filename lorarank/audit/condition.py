"""``--fail-if``: a small expression language on what an audit found (floor 3). Nothing in it is ever evaluated as code.

::

    expression = and ("or" and)*          "," is read as "or"
    and        = item ("and" item)*
    item       = "not" item | "(" expression ")" | CODE | WORD [comparison NUMBER]
    comparison = > | >= | < | <= | == | !=

WORD is a quantity of :data:`QUANTITIES`, a code such as ``LR003`` or a code's name such as ``saturated``: the number of
its findings. A word without a comparison asks whether it is above 0.

Of a source that cannot be read no quantity is known but its findings, and of a fine-tune some are not: what is asked
of those neither holds nor does its contrary.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorarank.audit.codes import CODES
from lorarank.errors import OptionError
from lorarank.wording import nearest

QUANTITIES: Mapping[str, str] = {
    "findings": "findings of every level",
    "errors": "findings of level error",
    "warnings": "findings of level warning",
    "notes": "findings of level note",
    "modules": "modules of the adapter",
    "parameters": "numbers stored for LoRA factors",
    "rank": "the largest r",
    "keep": "the rank that keeps the first --energy of all modules' energy together, the same in every module",
    "norm": "‖ΔW‖ of all modules together",
    "reducible": "share of the parameters that a cut of each module to its energy rank (first --energy) saves, 0 to 1",
    "idle": "share of the parameters in directions that are zero, dead modules included, 0 to 1",
}
"""What can be compared with a number, beside codes and their names."""

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}

WORDS = frozenset(QUANTITIES) | frozenset(CODES) | frozenset(code.name for code in CODES.values())

LONGEST, DEEPEST = 1000, 20

_WORDS_AND_SIGNS = (
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?%?|\.\d+%?)|(?P<word>[A-Za-z_]\w*)|(?P<sign>[<>=!]=?|[(),]))"
)

Test = Callable[[Mapping[str, float]], bool | None]
"""``None`` where what it asks for is not known."""


@dataclass(frozen=True)
class Condition:
    """A parsed expression.

    >>> condition = Condition.parse("dead > 0 or reducible >= 50%")
    >>> condition.holds({"dead": 0, "reducible": 0.61})
    True
    >>> unreadable = {"LR000": 1}
    >>> [Condition.parse(text).holds(unreadable) for text in ("keep < 8", "not keep < 8", "keep < 8 or LR000")]
    [False, False, True]
    """

    test: Test

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read an expression.

        Raises
        ------
        OptionError
            It is none, naming the place; or a word in it is unknown.
        """
        if len(text) > LONGEST:
            raise OptionError("--fail-if", f"{len(text):,} characters", do=f"keep it below {LONGEST:,}")
        parser = _Parser(text)
        test = parser.expression(0)
        if parser.kind:
            raise parser.error("expected the end, or and/or")
        return cls(test)

    def holds(self, values: Mapping[str, float]) -> bool:
        """Whether it is true of ``values``: a number for each word; codes that lack are 0, other quantities unknown."""
        return self.test(values) is True


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.kind, self.value, self.at = "", "", 0
        self.step()

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        token = re.compile(_WORDS_AND_SIGNS)  # here, since most audits have no expression
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = token.match(self.text, at)
            if match is None:
                self.at = at
                raise self.error("nothing that is understood")
            kind = match.lastgroup or ""
            yield kind, match[kind], match.start(kind)
            at = match.end()

    def step(self) -> str:
        """The token that was ahead; the next one takes its place."""
        value = self.value
        self.kind, self.value, self.at = next(self.tokens, ("", "", len(self.text)))
        return value

    def error(self, what: str) -> OptionError:
        """What is wrong, at the token ahead."""
        rest = self.text[self.at :].strip()[:20]
        return OptionError(
            f"--fail-if {self.text!r}",
            f"{what} at character {self.at + 1}" + (f" ({rest!r})" if rest else ""),
            do="write, say, 'dead > 0 or LR003 or reducible > 0.5'",
        )

    def expression(self, depth: int) -> Test:
        parts = [self.conjunction(depth)]
        while (self.kind, self.value.lower()) == ("word", "or") or self.value == ",":
            self.step()
            parts.append(self.conjunction(depth))
        return parts[0] if len(parts) == 1 else lambda values: _whether(True, parts, values)

    def conjunction(self, depth: int) -> Test:
        parts = [self.item(depth)]
        while (self.kind, self.value.lower()) == ("word", "and"):
            self.step()
            parts.append(self.item(depth))
        return parts[0] if len(parts) == 1 else lambda values: _whether(False, parts, values)

    def item(self, depth: int) -> Test:
        if depth > DEEPEST:
            raise self.error(f"nested deeper than {DEEPEST}")
        if self.value == "(":
            self.step()
            inner = self.expression(depth + 1)
            if self.value != ")":
                raise self.error("a parenthesis is not closed")
            self.step()
            return inner
        if self.kind != "word":
            raise self.error("expected a quantity or a code")
        if self.value.lower() == "not":
            self.step()
            negated = self.item(depth + 1)
            return lambda values: None if (held := negated(values)) is None else not held
        return self.comparison()

    def comparison(self) -> Test:
        word = self.value if self.value in WORDS else self.value.lower()
        word = word if word in WORDS else word.upper()
        if word not in WORDS:
            known = (*QUANTITIES, *(code.name for code in CODES.values()))
            near = nearest(self.value.lower(), known)
            ask = f"did you mean {near}? There are" if near else "choose among"
            do = f"{ask}: {', '.join(known)}, LR000 …"
            raise OptionError(f"--fail-if {self.text!r}", f"{self.value} is unknown", do=do)
        self.step()
        if self.value not in COMPARISONS:
            return _compared(word, operator.gt, 0.0)
        compare = COMPARISONS[self.step()]
        if self.kind != "number":
            raise self.error("expected a number")
        text = self.step()
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        if not math.isfinite(number):
            raise OptionError(f"--fail-if {self.text!r}", f"{text} is too large")
        return _compared(word, compare, number)


def _compared(word: str, compare: Callable[[float, float], bool], number: float) -> Test:
    lacking = None if word in QUANTITIES else 0.0

    def test(values: Mapping[str, float]) -> bool | None:
        value = values.get(word, lacking)
        return None if value is None else compare(value, number)

    return test


def _whether(settles: bool, parts: Sequence[Test], values: Mapping[str, float]) -> bool | None:
    """``or`` of the parts, which one that is ``True`` settles; ``and``, which one that is ``False`` does."""
    held = [part(values) for part in parts]
    if settles in held:
        return settles
    return None if None in held else not settles

"""The language of --fail-if: what it says, and that nothing else gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.audit.codes import CODES
from lorarank.audit.condition import QUANTITIES, WORDS, Condition
from lorarank.errors import OptionError
from lorarank.topics import read

VALUES = {"dead": 2.0, "LR002": 2.0, "reducible": 0.6, "rank": 16.0}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("dead", True),
        ("saturated", False),
        ("LR002", True),
        ("lr002", True),
        ("DEAD > 1", True),
        ("dead>2", False),
        ("dead >= 2", True),
        ("dead == 2", True),
        ("dead = 2", True),
        ("dead != 2", False),
        ("reducible>0.5", True),
        ("reducible > 50%", True),
        ("reducible > .7", False),
        ("rank < 1e2", True),
        ("nan, dead", True),
        ("nan or dead", True),
        ("nan and dead", False),
        ("nan and dead or dead", True),
        ("dead and (nan or rank > 8)", True),
        ("not nan", True),
        ("not (dead or nan)", False),
        ("not not dead", True),
        ("  dead  ", True),
    ],
)
def test_what_it_says(text: str, holds: bool) -> None:
    assert Condition.parse(text).holds(VALUES) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("keep < 4", False),
        ("keep >= 4", False),
        ("not keep < 4", False),
        ("not keep", False),
        ("keep < 4 or dead", True),
        ("dead or keep < 4", True),
        ("keep < 4 and dead", False),
        ("not (keep < 4 and dead)", False),
        ("not (keep < 4 and nan)", True),
        ("not (keep < 4 or nan)", False),
        ("nan == 0", True),
    ],
)
def test_what_is_not_known_neither_holds_nor_does_its_contrary(text: str, holds: bool) -> None:
    assert Condition.parse(text).holds(VALUES) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "dead >",
        "> 3",
        "dead > rank",
        "dead dead",
        "dead > 3 4",
        "(dead",
        "dead)",
        "unknown",
        "LR999",
        "dead > 1e999",
        "3",
        "not",
        "dead or",
        "__import__('os')",
        "dead; rank",
        "dead\x1b[31m",
        "(" * 100 + "dead" + ")" * 100,
        "dead or " * 200,
        "not " * 100 + "dead",
    ],
)
def test_what_it_refuses(text: str) -> None:
    with pytest.raises(OptionError, match="--fail-if") as caught:
        Condition.parse(text)
    assert str(caught.value).isprintable()


@given(st.text(alphabet="dean LR02<>=!()and or not,.%19", max_size=40))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        condition = Condition.parse(text)
    except OptionError:
        return
    assert condition.holds(VALUES) in (True, False)


def test_names_are_unique() -> None:
    assert len(WORDS) == len(QUANTITIES) + 2 * len(CODES)


def test_the_help_tells_every_code_and_quantity() -> None:
    told = read("findings")
    for code in CODES.values():
        assert f"| {code.code} | `{code.name}` | {code.level} | {code.meaning} |" in told
    assert all(f"- `{name}`: {meaning}\n" in told for name, meaning in QUANTITIES.items())

"""Which entry of ``rank_pattern`` or ``alpha_pattern`` holds for a module, by PEFT's own rule, and which modules a
regular expression in ``target_modules`` names (floor 1).

PEFT takes the first key, in the order of the configuration, for which ``re.match(rf"(.*\\.)?({key})$", module)`` holds
(``peft.utils.other.get_pattern_key``), and of a single ``target_modules`` asks ``re.fullmatch``
(``match_target_against_key``). They are regular expressions from strangers, and some of those keep Python's engine busy
for years. So names and other plain ones are matched here, and the rest in a child process that is given a second and a
half.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from lorarank.errors import AdapterError

SECONDS = 1.5
"""What all patterns of a configuration together may take; real ones take milliseconds."""

PLAIN = re.compile(r"\^?(?:[\w\-/ ]|\\?\.|\\d)*\$?", re.ASCII)
"""Letters and dots: without repetition or choice there is nothing to backtrack into."""

TAIL = re.compile(r"[\w\- ]*\$?$", re.ASCII)

CHILD = """
import json, re, sys
patterns, way, names = json.load(sys.stdin)
found = [getattr(re.compile(pattern), way) for pattern in patterns]
json.dump([next((i for i, match in enumerate(found) if match(name)), None) for name in names], sys.stdout)
"""


def first_matches(keys: Sequence[str], names: Iterable[str], where: str) -> Mapping[str, str]:
    """For each name that any key matches, the first such key.

    Parameters
    ----------
    keys : regular expressions, in the order of the configuration.
    names : module paths without ``base_model.model.``.
    where : for messages: the file and its field.

    Raises
    ------
    AdapterError
        A key is no regular expression, or takes too long to match.

    >>> first_matches(["q_proj", "^h.1.v_proj"], ["h.0.q_proj", "h.1.v_proj", "x.h.1.v_proj"], "config")
    {'h.0.q_proj': 'q_proj', 'h.1.v_proj': '^h.1.v_proj'}
    """
    names = list(dict.fromkeys(names))
    order = {key: place for place, key in enumerate(keys)}
    plain = {key: _Plain(key) for key in keys if PLAIN.fullmatch(key)}
    found = {}
    deadline = time.monotonic() + SECONDS
    for name in names:
        first = next((key for key, pattern in plain.items() if pattern.matches(name)), None)
        if first is not None:
            found[name] = first
        if time.monotonic() > deadline:
            raise _too_slow(where, "give fewer of them")
    involved = [key for key in keys if key not in plain]
    framed = [rf"(.*\.)?({key})$" for key in involved]
    for name, place in _in_a_child(framed, "match", names, where, shown=involved).items():
        found[name] = min(involved[place], found.get(name, involved[place]), key=order.__getitem__)
    return found


def full_matches(pattern: str, names: Iterable[str], where: str) -> frozenset[str]:
    r"""The names that a pattern matches from end to end; the parameters and errors are those of :func:`first_matches`.

    >>> sorted(full_matches(r".*\.[qv]_proj", ["h.0.q_proj", "h.0.v_proj", "h.0.mlp", "q_proj"], "config"))
    ['h.0.q_proj', 'h.0.v_proj']
    """
    return frozenset(_in_a_child([pattern], "fullmatch", list(names), where, shown=[pattern]))


def pattern_keys(names: Iterable[str]) -> Mapping[str, str]:
    """Module path → a key that matches it alone by PEFT's rule ``(.*\\.)?({key})$``.

    That is the path itself; where another path ends in it, or it holds more than letters, digits, ``_`` and ``.``, it
    is escaped and anchored.

    >>> list(pattern_keys(["layers.0.q", "decoder.layers.0.q"]).values())
    ['^layers\\\\.0\\\\.q', 'decoder.layers.0.q']
    """
    names = tuple(names)
    endings = Counter(ending for name in names for ending in _endings(name))
    lengths: dict[int, list[str]] = {}
    for ending in endings:
        lengths.setdefault(len(ending), []).append(ending)

    def alone(name: str) -> bool:
        """Whether the path as a pattern matches no other path: its dots match any character."""
        dots = name.count(".")
        return endings[name] == 1 and not any(
            re.fullmatch(name, other) for other in lengths[len(name)] if other.count(".") < dots
        )

    return {
        name: name if re.fullmatch(r"[A-Za-z0-9_.]+", name) and alone(name) else f"^{re.escape(name)}" for name in names
    }


def _endings(name: str) -> Iterable[str]:
    """The path, and what follows each of its dots."""
    parts = name.split(".")
    return (".".join(parts[start:]) for start in range(len(parts)))


def _tail(key: str) -> str:
    """The word at the end of a plain key that every name it matches ends with.

    >>> _tail("q_proj"), _tail(r"^layers\\.\\d.q_proj$"), _tail(r"layers.\\d"), _tail("layers.")
    ('q_proj', 'q_proj', '', '')
    """
    word = TAIL.sub("", key)
    tail = key.removeprefix(word).removesuffix("$")
    return tail[1:] if word.endswith("\\") else tail


class _Plain:
    """A plain key. What it matches has a fixed length and a fixed last word, which rules out most names at once."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._tail = _tail(key)
        self._length = len(key) - key.count("\\") - key.startswith("^") - key.endswith("$")

    def matches(self, name: str) -> bool:
        """Whether PEFT's rule holds.

        >>> [_Plain("q.b").matches(name) for name in ("q.b", "x.q.b", "xq.b", "q_b", "b")]
        [True, True, False, True, False]
        """
        before = len(name) - self._length
        at_boundary = before == 0 or (before > 0 and name[before - 1] == ".")
        return at_boundary and name.endswith(self._tail) and self._pattern.match(name) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(.*\.)?({self._key})$")


def _in_a_child(
    patterns: Sequence[str], way: str, names: Sequence[str], where: str, *, shown: Sequence[str]
) -> dict[str, int]:
    """Name → place of the first pattern that matches it in this way; of patterns that are ``shown`` as they were."""
    if not patterns or not names:
        return {}
    import subprocess  # rarely needed, and slow to load

    try:
        child = subprocess.run(  # noqa: S603 (our own text, in our own interpreter; the strangers' is its data)
            [sys.executable, "-I", "-c", CHILD],
            input=json.dumps([patterns, way, names]),
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(where, "write them without nested repetition") from None
    except subprocess.CalledProcessError:
        raise AdapterError(where, f"no valid regular expression among: {', '.join(shown)}") from None
    places = json.loads(child.stdout)
    return {name: place for name, place in zip(names, places, strict=True) if place is not None}


def _too_slow(where: str, do: str) -> AdapterError:
    return AdapterError(where, f"its patterns take more than {SECONDS:g} s to match", do=do)

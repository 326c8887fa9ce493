"""What `lorarank help TOPIC` shows: a Markdown file for each topic, as it stands in this folder (floor 0)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lorarank.errors import OptionError
from lorarank.wording import nearest

TOPICS = {
    "choosing-r": "Which rank, and how much evidence for it.",
    "alpha": "lora_alpha, scaling and the learning rate.",
    "targets": "Which modules to adapt, and what that costs.",
    "spectrum": "What singular values and ranks say, and what not.",
    "train-and-keep": "The rank to train at, and the rank to cut to.",
    "evidence": "What the answer rests on, and how good it is.",
    "qlora": "Probing and training on a base in 4 bits.",
    "formats": "Adapters, data, configurations and run folders.",
    "findings": "The codes of an audit, and what --fail-if asks.",
    "security": "Files from strangers, and what never happens with them.",
    "scaling-out": "Large models, clusters, adapters by the thousand.",
    "troubleshooting": "Exit codes, refusals, memory, and what to try.",
}
"""Every topic with a sentence on it, in the order of reading; the name is that of its file."""


def read(topic: str, also: Iterable[str] = ()) -> str:
    """The Markdown of a topic; blanks and underscores in its name count as hyphens.

    Parameters
    ----------
    topic : its name.
    also : other names that may have been meant.

    Raises
    ------
    OptionError
        There is no such topic; the nearest one is named.

    >>> read("Choosing r").splitlines()[0]
    '# Choosing r'
    >>> read("qlra")
    Traceback (most recent call last):
        ...
    lorarank.errors.OptionError: help qlra: no such topic. Did you mean qlora? `lorarank help` lists them all.
    """
    name = "-".join(topic.lower().replace("_", " ").split())
    if name not in TOPICS:
        near = nearest(name, [*TOPICS, *also], cutoff=0.5)
        meant = " or ".join([near] if near else _about(name))
        meant = f"did you mean {meant}? " if meant else ""
        raise OptionError(f"help {topic}", "no such topic", do=f"{meant}`lorarank help` lists them all")
    return _text(name)


def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")


def _about(word: str) -> list[str]:
    """Topics that have a word in their name, or else those with it in their heading or sentence; at most two.

    >>> _about("keep"), _about("rank"), _about("xyzzy")
    (['train-and-keep'], ['choosing-r', 'train-and-keep'], [])
    """
    named = [topic for topic in TOPICS if word in topic.split("-")]
    said = [
        topic
        for topic, sentence in TOPICS.items()
        if word in re.findall(r"\w+", f"{_text(topic).partition(chr(10))[0]} {sentence}".lower())
    ]
    return (named or said)[:2]

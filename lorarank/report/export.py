"""A recommendation for files, other programs and PEFT: Markdown, JSON, CSV, ``LoraConfig(...)`` (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorarank.estimate.recommendation import Config, ModuleSummary, Recommendation
from lorarank.report import content, python_text
from lorarank.report.json_text import as_json
from lorarank.report.plain import Records, as_csv, escaped, grid_to_markdown, records


def lora_config(config: Config) -> str:
    """``LoraConfig(...)`` as a Python expression; names are quoted so that nothing in them can be anything else.

    >>> print(lora_config(Config("CAUSAL_LM", 8, 16, 0.05, ("q_proj", "v_proj"), "none", False, {}, {})))
    LoraConfig(
        task_type="CAUSAL_LM",
        r=8,
        lora_alpha=16,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj"],
        bias="none",
    )
    """
    arguments: dict[str, Any] = {
        "task_type": config.task_type,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": config.target_modules,
        "bias": config.bias,
    }
    if config.fan_in_fan_out:
        arguments["fan_in_fan_out"] = True
    patterns = {"rank_pattern": config.rank_pattern, "alpha_pattern": config.alpha_pattern}
    return python_text.call("LoraConfig", arguments | {name: pattern for name, pattern in patterns.items() if pattern})


def to_json(answer: Recommendation, *, command: Sequence[str] = (), per_module: bool = False) -> str:
    """Everything as JSON with sorted keys; numbers that are not finite are null.

    ``command`` is what was run; ``per_module`` keeps the modules.
    """
    plain = dataclasses.asdict(answer) | {"command": list(command), "refused": answer.refused}
    plain["snippet"] = None if answer.config is None else lora_config(answer.config)
    if not per_module:
        del plain["modules"]
    return as_json(plain)


def rows(answer: Recommendation) -> Records:
    """A row a module: the fields of :class:`~lorarank.estimate.recommendation.ModuleSummary`, and its rank within the
    budget where one was given.
    """
    found = records(ModuleSummary, answer.modules)
    if answer.allocation is None:
        return found
    ranks = answer.allocation.ranks
    bought = tuple((*row, ranks.get(one.name, 0)) for row, one in zip(found.rows, answer.modules, strict=True))
    return Records((*found.names, "rank_in_budget"), bought)


def to_csv(answer: Recommendation) -> str:
    """:func:`rows` as CSV."""
    return as_csv(rows(answer))


def to_markdown(answer: Recommendation, *, per_module: bool = False) -> str:
    """The same report as Markdown; ``per_module`` adds the table of all modules."""
    parts = [f"**{escaped(content.headline(answer))}**"]
    parts.append("\n".join(f"- **{label}:** {escaped(text)}" for label, text in content.facts(answer)))
    for title, sentences in content.sections(answer):
        parts.append(f"### {title}")
        parts.append("\n".join(f"- {escaped(sentence)}" for sentence in sentences))
    grids = [content.adapter_grid(answer), content.type_grid(answer), content.layer_grid(answer)]
    if per_module and answer.modules:
        grids.append(content.module_grid(answer))
    for grid in grids:
        if grid is not None:
            parts += [f"### {grid.title}", grid_to_markdown(grid)]
    if answer.config is not None:
        parts += ["### To paste", f"```python\n{lora_config(answer.config)}\n```"]
    return "\n\n".join(parts) + "\n"

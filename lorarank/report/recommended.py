"""A recommendation: on a sheet, as JSON, as rows, and as ``LoraConfig(...)`` to paste (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorarank.estimate.recommendation import Config, ModuleSummary, Recommendation
from lorarank.report import python_text
from lorarank.report import recommended_content as content
from lorarank.report.json_text import as_json
from lorarank.report.plain import Records, Sheet, records


def lay(page: Sheet, answer: Recommendation, *, per_module: bool = False) -> None:
    """The answer first, then the figures that go with it, the reasons, the tables, and what to paste.

    Parameters
    ----------
    page : to lay it out on.
    answer : the recommendation.
    per_module : whether to add the table of all modules.
    """
    page.head(content.headline(answer), good=answer.r is not None)
    page.facts(content.facts(answer))
    for title, sentences in content.sections(answer):
        page.section(title, sentences)
    for grid in (content.adapter_grid(answer), content.type_grid(answer)):
        if grid is not None:
            page.grid(grid)
    layers = content.layer_grid(answer)
    if layers is not None:
        page.folded(layers)
    if per_module and answer.modules:
        page.grid(content.module_grid(answer))
    if answer.config is not None:
        page.code("To paste", lora_config(answer.config))


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
    """One row per module: the fields of :class:`~lorarank.estimate.recommendation.ModuleSummary`, and its rank within
    the budget where one was given.
    """
    found = records(ModuleSummary, answer.modules)
    if answer.allocation is None:
        return found
    ranks = answer.allocation.ranks
    bought = tuple((*row, ranks.get(one.name, 0)) for row, one in zip(found.rows, answer.modules, strict=True))
    return Records((*found.names, "rank_in_budget"), bought)

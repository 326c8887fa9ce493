"""``--ray``, with an address or without one (floor 5)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import click

from lorarank.ray_cluster import is_address

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
FLAG = "--ray"


def on_cluster(help_: str) -> Callable[[Decorated], Decorated]:
    """Add the option to a command of class :class:`OnCluster`."""
    return click.option(FLAG, metavar="ADDRESS", is_flag=False, flag_value="", default=None, help=help_)


class OnCluster(click.Command):
    """A command whose ``--ray`` takes what follows only where that is an address.

    click takes whatever does not begin with a dash, so ``--ray MODEL`` would have no model left.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, of arguments in which no address is written as an empty one."""
        return super().parse_args(ctx, with_addresses(args))


def with_addresses(args: list[str]) -> list[str]:
    """The arguments with ``--ray`` as ``--ray=`` where no address follows.

    >>> with_addresses(["--ray", "base", "--ray", "10.0.0.1:6379", "--", "--ray"])
    ['--ray=', 'base', '--ray', '10.0.0.1:6379', '--', '--ray']
    """
    options = args[: args.index("--")] if "--" in args else args
    said = [f"{FLAG}=" if one == FLAG and not is_address(after) else one for one, after in pairwise([*options, ""])]
    return said + args[len(options) :]

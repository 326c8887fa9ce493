"""A Ray cluster that answers, or one line that says it does not (floor 1; needs the extra ``ray``)."""

from __future__ import annotations

import re
from typing import Any

from lorarank.errors import ResourceError, first_line, needing

PATIENCE = 10.0
"""Seconds for somebody to answer at an address. Ray itself tries for minutes, and then ends the process."""

ADDRESS = re.compile(r"auto|local|(?:[\w+.-]+://)?(?P<host>\[[^]]+\]|[^\s/:]+):(?P<port>\d+)/?")
"""``host:port``, also with a scheme (``ray://``) before it, or what Ray has a name for."""


def is_address(text: str) -> bool:
    """Whether ``text`` can be the address of a cluster.

    >>> [is_address(text) for text in ("10.0.0.1:6379", "ray://head:10001", "auto", "owner/name", "model")]
    [True, True, True, False, False]
    """
    return ADDRESS.fullmatch(text) is not None


def connect(address: str) -> tuple[Any, bool]:
    """Ray, connected to the cluster at ``address``, or to one of this machine where that is "".

    Where it is connected already, that is the cluster. The second value says whether it was connected here.

    Raises
    ------
    MissingExtraError
        ray is not installed.
    ResourceError
        The cluster cannot be reached.
    """
    with needing("--ray", "ray", extra="ray"):
        import ray
    if ray.is_initialized():
        return ray, False
    found = ADDRESS.fullmatch(address)
    try:
        if found and found["host"]:
            import socket  # audit asks this module for addresses alone

            socket.create_connection((found["host"].strip("[]"), int(found["port"])), PATIENCE).close()
        ray.init(address=address or None, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        do = "check the address, or leave it out for a cluster of this machine"
        raise ResourceError(
            f"--ray {address}".rstrip(), f"no cluster answers ({first_line(error, 1000)})", do=do
        ) from None
    return ray, True

"""No memory and no room on the disk in the middle of the work, said in one line (floor 2, torch)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils.memory import should_reduce_batch_size
from safetensors import SafetensorError

from lorarank.errors import LorarankError, ResourceError, first_line
from lorarank.probe.batches import out_of_memory
from lorarank.probe.material import Material

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

DISK_FULL_WORDS = ("PytorchStreamWriter", "unexpected pos", "No space left", "file write failed", "I/O error")
"""What libraries that write files say where they tell no number; the second is torch.save, of a file cut short."""


@contextmanager
def resources(material: Material, output: Path, *, again: str) -> Iterator[None]:
    """Within the block, what the libraries say of memory and disks becomes a :class:`~lorarank.errors.ResourceError`.

    Parameters
    ----------
    material : what is worked on; its rows are what may be too long.
    output : the folder that is written to.
    again : how to go on once there is room.

    Raises
    ------
    ResourceError
        There is no memory for a step, or no room for a file.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise out_of_memory(material, error) from None
    except LorarankError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        if should_reduce_batch_size(error):  # of CPUs and Apple's GPUs torch says it as a RuntimeError
            raise out_of_memory(material, error) from None
        if not _disk_is_full(error):
            raise
        raise ResourceError(
            output,
            f"a checkpoint cannot be written ({first_line(error, 120)})",
            why="the disk is full or not writable; what was written before is intact",
            do=f"make room, then {again}",
        ) from None


def _disk_is_full(error: BaseException) -> bool:
    """Whether an error of a library that writes files means that there is no room: each says so in its own way."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return any(words in str(error) for words in DISK_FULL_WORDS)

"""The probe from end to end: gather, say the plan, do every stage, write (floor 2, torch)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from accelerate import PartialState
from safetensors import SafetensorError

from lorarank import runs
from lorarank.errors import LorarankError, ResourceError
from lorarank.locks import sole_writer
from lorarank.probe import model as models
from lorarank.probe import record
from lorarank.probe.batches import out_of_memory
from lorarank.probe.companion import companion
from lorarank.probe.options import ProbeOptions
from lorarank.probe.planning import Plan, prepared
from lorarank.probe.progress import Report
from lorarank.probe.stages import Stages, check_output, planned_tokens
from lorarank.probe.unfinished import UnfinishedProbe


def run(options: ProbeOptions, *, report: Report, announce: Callable[[Plan], None], command: Sequence[str]) -> runs.Run:
    """Do the probe and return the finished run; see :func:`lorarank.probe.probe`."""
    resumed = check_output(options)
    state = PartialState(cpu=models.choose_device(options.device).type == "cpu")
    material, plan = prepared(options, planned_tokens(options) if resumed else None)
    announce(plan)
    stages = Stages.open(options, material, writes=state.is_main_process)
    state.wait_for_everyone()
    try:
        with sole_writer(options.output, "probe") if stages.writes else nullcontext():
            probe = UnfinishedProbe(options, material, plan, stages, report, tuple(command))
            for replicate in range(options.replicates):
                probe.trained(replicate)
            if options.has_companion:
                companion(probe)
            if stages.writes:
                record.write(probe)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise out_of_memory(material, str(error)) from None
    except LorarankError:
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        if "can't allocate memory" in str(error):  # torch's allocator for CPUs
            raise out_of_memory(material, str(error)) from None
        if not _disk_is_full(error):
            raise
        raise ResourceError(
            options.output,
            f"a checkpoint cannot be written ({str(error).splitlines()[0]:.120})",
            why="the disk is full or not writable; what was written before is intact",
            do="make room, then go on with --resume",
        ) from None
    state.wait_for_everyone()
    return runs.read(options.output)


def _disk_is_full(error: BaseException) -> bool:
    """Whether an error of a library that writes files means that there is no room: each says so in its own way."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return True
    text = str(error)
    return any(sign in text for sign in ("PytorchStreamWriter", "No space left", "file write failed", "I/O error"))

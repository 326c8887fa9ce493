"""The probe from end to end: gather, say the plan, do every stage, write (floor 2, torch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from accelerate import PartialState

from lorarank import runs
from lorarank.errors import OptionError
from lorarank.locks import sole_writer
from lorarank.probe import model as models
from lorarank.probe import record
from lorarank.probe.companion import companion
from lorarank.probe.failures import resources
from lorarank.probe.options import ProbeOptions
from lorarank.probe.planning import Plan, prepared
from lorarank.probe.progress import Report
from lorarank.probe.stages import Stages, check_output, made, planned_tokens
from lorarank.probe.unfinished import UnfinishedProbe


def run(options: ProbeOptions, *, report: Report, announce: Callable[[Plan], None], command: Sequence[str]) -> runs.Run:
    """Do the probe and return the finished run; see :func:`lorarank.probe.probe`."""
    resumed = check_output(options)
    device = models.choose_device(options.device)
    state = PartialState(cpu=device.type == "cpu")
    if state.num_processes > 1 and ":" in options.device:
        raise OptionError(
            f"--device {options.device}",
            f"{state.num_processes} processes train together, each on a GPU of its own",
            do=f"leave --device out, or give --device {device.type}",
        )
    material, plan = prepared(options, planned_tokens(options) if resumed else None)
    announce(plan)
    writes = state.is_main_process
    if writes:
        made(options.output)
    with (
        resources(material, options.output, again="go on with --resume"),
        sole_writer(options.output, "probe", runs.PROGRESS) if writes else nullcontext(),
    ):
        stages = Stages.open(options, material, writes=writes)
        state.wait_for_everyone()
        probe = UnfinishedProbe(options, material, plan, stages, report, tuple(command))
        for replicate in range(options.replicates):
            probe.trained(replicate)
        if options.has_companion:
            companion(probe)
        if stages.writes:
            record.write(probe)
    state.wait_for_everyone()
    return runs.read(options.output)

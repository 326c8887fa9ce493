"""The audit of one adapter (floor 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lorarank import __version__, adapters
from lorarank.audit import findings as looking
from lorarank.audit.codes import Finding, tallied
from lorarank.audit.groups import GroupAudit, by_layer, by_type, group
from lorarank.audit.modules import ModuleAudit, audit_modules
from lorarank.audit.options import AuditOptions
from lorarank.audit.reduction import Reduction, idle_share, reductions
from lorarank.audit.serving import Serving, serve
from lorarank.result import Result
from lorarank.sources import Source
from lorarank.spectrum import of_modules

SCHEMA = 1


@dataclass(frozen=True)
class Audit(Result):
    """What an adapter really uses. It says what was used and not what a task needs: there is no train rank in it.

    Attributes
    ----------
    source : as it was given.
    format, base_model, notes : see :class:`lorarank.adapters.Adapter`.
    carried : tensors beside the LoRA factors.
    dtypes : of the stored factors, each once.
    energy : the shares that ``energy_ranks`` and ``reductions`` are at.
    whole : all modules as one group; ``types`` and ``layers`` are parts of it.
    modules : each module, in the adapter's order.
    reductions : what it could be cut to at each share; the first is the one that findings speak of.
    idle : share of the parameters in directions that are zero.
    serving : what an engine without patterns and with a largest rank would make of it.
    findings : about the whole, then about its modules.
    schema, lorarank : version of this layout, and of the package.
    """

    source: str
    format: str
    base_model: str | None
    notes: tuple[str, ...]
    carried: int
    dtypes: tuple[str, ...]
    energy: tuple[float, ...]
    whole: GroupAudit
    types: tuple[GroupAudit, ...]
    layers: tuple[GroupAudit, ...]
    modules: tuple[ModuleAudit, ...]
    reductions: tuple[Reduction, ...]
    idle: float
    serving: Serving
    findings: tuple[Finding, ...]
    schema: int = SCHEMA
    lorarank: str = __version__

    @property
    def quantities(self) -> Mapping[str, float]:
        """What ``--fail-if`` compares, see :data:`lorarank.audit.condition.QUANTITIES`; codes also under their name.

        Without a module that can be measured there is no ``norm``, and nothing that a cut would do.
        """
        first, figures = self.reductions[0], self.whole.figures
        cuts = {"keep": first.uniform, "reducible": first.saved, "idle": self.idle}
        return {
            **counted(self.findings),
            **({} if figures is None else {"norm": figures.norm, **cuts}),
            "modules": self.whole.modules,
            "parameters": self.whole.parameters,
            "rank": self.whole.r[1],
        }


def counted(found: tuple[Finding, ...]) -> dict[str, float]:
    """Number of findings, as :func:`~lorarank.audit.codes.tallied` has it.

    >>> from lorarank.audit import codes
    >>> counts = counted((codes.found(codes.DEAD, "Zero."),))
    >>> counts["findings"], counts["warnings"], counts["LR002"], counts["dead"], counts["nan"]
    (1.0, 1.0, 1.0, 1.0, 0.0)
    """
    return tallied(Counter(one.code for one in found))


def audit(
    source: Source,
    options: AuditOptions | None = None,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """Audit one adapter, a module in memory at a time.

    Parameters
    ----------
    source : a folder, a file, or a hub id ``owner/name[@revision]``.
    options : what to ask; defaults where left out. ``fail_if`` plays no part here.
    jobs : the most processes, see :func:`lorarank.spectrum.of_modules`.
    progress : called with modules done and modules in all.

    Raises
    ------
    SourceError, AdapterError, MissingExtraError
        It cannot be read as a LoRA.
    ResourceError
        A module does not fit into memory, or a process was killed.

    Notes
    -----
    Numbers that cannot be measured in one module, NaN for one, are a finding there and no error.
    """
    options = options or AuditOptions()
    adapter = adapters.open(source)
    spectra = of_modules(adapter.modules, jobs=jobs, where=source, progress=progress)
    modules = audit_modules(adapter.modules, spectra, options.energy)
    whole = group("all", modules)
    norm = whole.figures.norm if whole.figures is not None else 0.0
    cuts = reductions(modules, whole.figures, options.energy)
    serving = serve(adapter, modules, options.served_rank)
    return Audit(
        source=str(source),
        format=adapter.format,
        base_model=adapter.base_model,
        notes=adapter.notes,
        carried=len(adapter.carried),
        dtypes=tuple(dict.fromkeys(module.dtype for module in adapter.modules)),
        energy=options.energy,
        whole=whole,
        types=by_type(modules, norm),
        layers=by_layer(modules, norm),
        modules=modules,
        reductions=cuts,
        idle=idle_share(modules),
        serving=serving,
        findings=(
            *looking.of_adapter(adapter, modules, cuts[0], serving),
            *(finding for module in modules for finding in looking.of_module(module, options.energy)),
        ),
    )

"""``lorarank.audit`` (floor 5)."""

from __future__ import annotations

from collections.abc import Sequence

from lorarank.audit.expand import expand
from lorarank.audit.options import AuditOptions
from lorarank.audit.several import AuditReport, audit_all
from lorarank.mirror import mirrored
from lorarank.sources import Source, as_list


def _audit(sources: Source | Sequence[Source], options: AuditOptions) -> AuditReport:
    """Say which rank each module of adapters really uses, and what is wrong with it.

    A single source that cannot be read raises; among several it is an entry of ``unreadable``. For a full fine-tune
    see :func:`lorarank.fine_tune.compare_models`, and for thousands :func:`lorarank.audit.many.audit_many`.

    Parameters
    ----------
    sources : one or several: a folder, a file, a hub id ``owner/name[@revision]``, a pattern such as ``adapters/**``,
        or a folder of adapters.

    Returns
    -------
    AuditReport : an audit for each source, in their order.

    Raises
    ------
    SourceError, AdapterError, MissingExtraError
        The only source cannot be read as a LoRA.
    OptionError
        An option out of its range, or no source.
    """
    return audit_all(expand([str(source) for source in as_list(sources)]), options)


audit = mirrored("audit", _audit, AuditOptions)

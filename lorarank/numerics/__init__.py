"""Floor 0: arrays in, arrays and numbers out.

The rule of this floor: numpy (and scipy, only inside a function that needs it) and :mod:`lorarank.errors`, nothing
else. No torch, no paths, no printing, no global state, and no import from any floor above. A delta weight
``scaling * lora_B @ lora_A`` is never formed: everything is done on r×r matrices in float64.

* :mod:`~lorarank.numerics.core`: the r×r core whose singular values are those of the delta weight.
* :mod:`~lorarank.numerics.gram_route`: whether the fast way to it is precise enough.
* :mod:`~lorarank.numerics.linalg`: spectrum, truncated factors.
* :mod:`~lorarank.numerics.measures`: real-valued dimensions of a spectrum.
* :mod:`~lorarank.numerics.criteria`: spectrum to a count of values worth keeping.
* :mod:`~lorarank.numerics.replication`: what two updates of the same module have in common.
* :mod:`~lorarank.numerics.allocation`: from per-module spectra to ranks under a budget.
* :mod:`~lorarank.numerics.ladder`: the ladder of ranks.
* :mod:`~lorarank.numerics.paired`: means and standard errors over documents.
"""

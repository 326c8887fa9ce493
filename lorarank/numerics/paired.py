"""Means and standard errors of losses measured document by document (floor 0).

A held-out loss is a ratio: total loss over total target tokens. Documents, not tokens, are the independent units, so
its standard error comes from the spread between documents; a difference of two losses is taken document by
document, because the same document is hard for both models and most of the spread cancels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def ratio_mean(sums: ArrayLike, counts: ArrayLike) -> tuple[float, float]:
    """Mean per token and its standard error, over documents.

    Parameters
    ----------
    sums : (documents,) total per document, e.g. nats; may be a difference of two totals.
    counts : (documents,) target tokens per document.

    Returns
    -------
    mean, standard_error : Σsums/Σcounts, and the linearised standard error of that ratio; the latter is NaN for a
        single document, where no spread can be seen.

    References
    ----------
    W. G. Cochran, Sampling Techniques, 3rd ed., 1977, section 6.3 (variance of a ratio estimate).

    Examples
    --------
    >>> mean, se = ratio_mean([2.0, 4.0, 6.0], [2, 2, 2])
    >>> round(mean, 6), round(se, 6)
    (2.0, 0.57735)
    """
    sums, counts = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    mean = float(sums.sum() / counts.sum())
    documents = sums.size
    if documents < 2:
        return mean, float("nan")
    residuals = sums - mean * counts
    variance = documents / (documents - 1) * float(residuals @ residuals)
    return mean, float(np.sqrt(variance) / counts.sum())


def paired_difference(first: ArrayLike, second: ArrayLike, counts: ArrayLike) -> tuple[float, float]:
    """Mean of ``first − second`` per token and its standard error, paired by document.

    ``first`` and ``second`` are (documents,) totals of the same documents in the same order.

    >>> mean, se = paired_difference([3.0, 6.0], [2.0, 5.0], [1, 1])
    >>> mean, se
    (1.0, 0.0)
    """
    return ratio_mean(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), counts)

"""A full fine-tune and its base: the spectrum of what changed, and a LoRA of a chosen rank from it (floor 3).

*weights* opens the *files* of two models, and *pairing* says which tensor of one is which of the other's; *updates*
measures W_tuned − W_base, one *matrix* in memory at a time, and what *rounding* adds to it; *findings* says what is odd
about it; *extract* writes the leading part of it as an ordinary PEFT adapter, under the names of the *loaded* model.
"""

from lorarank.fine_tune.extract import Extraction, extract
from lorarank.fine_tune.matrix import MatrixUpdate
from lorarank.fine_tune.updates import FineTune, attempt, compare_models

__all__ = ["Extraction", "FineTune", "MatrixUpdate", "attempt", "compare_models", "extract"]

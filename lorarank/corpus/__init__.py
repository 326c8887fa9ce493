"""Text, JSONL or a dataset in; tokens, held-out documents and rows to train on out (floor 1).

``read`` makes :class:`Document` values from a file or a dataset of the hub, ``split_heldout`` and ``parts`` divide
them, ``tokenize`` says for every token whether it carries loss, ``pack`` lays the tokens out in rows. The formats are
those of TRL's supervised trainer, and so are the tokens and the loss masks. Tokenizers are passed in; torch is never
imported.
"""

from lorarank.corpus.controls import frequency_losses, with_other_prompts
from lorarank.corpus.documents import Document, DocumentSet, read
from lorarank.corpus.rows import Rows, pack
from lorarank.corpus.split import parts, sample, split_heldout, without
from lorarank.corpus.tokens import TokenDocument, TokenSet, distinct_targets, tokenize, total_tokens, unique_tokens

__all__ = [
    "Document",
    "DocumentSet",
    "Rows",
    "TokenDocument",
    "TokenSet",
    "distinct_targets",
    "frequency_losses",
    "pack",
    "parts",
    "read",
    "sample",
    "split_heldout",
    "tokenize",
    "total_tokens",
    "unique_tokens",
    "with_other_prompts",
    "without",
]

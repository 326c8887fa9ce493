"""What an adapter is that no reader takes: one sentence that says so (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from lorarank.adapters.adapter import natural_order
from lorarank.adapters.candidate import MOST_SEEN, Candidate, tensor_files
from lorarank.adapters.peft_config import FILE_NAME, OTHER_METHOD
from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.errors import AdapterError

NOT_LORA: Sequence[tuple[str, str]] = (
    (r"\.hada_[wt][12]", "a LoHa of LyCORIS, whose update is an elementwise product of two low-rank products"),
    (r"\.lokr_(w|t)[12]", "a LoKr of LyCORIS, whose update is a Kronecker product"),
    (r"\.ia3_l\b|\.on_input$", "an (IA)³, which rescales activations"),
    (r"\.b?oft_", "an OFT, which multiplies the weights by rotations"),
    (r"\.vera_lambda", "a VeRA, whose factors are random and shared"),
    (r"\.a1\.weight$|\.b1\.weight$", "a GLoRA of LyCORIS, whose update depends on the base weight"),
    (r"\.lora_E(\.|$)", "an AdaLoRA, which puts learnt singular values between its factors"),
    (r"\.lora_(?:mixer|AB)\b", "a MoSLoRA, which trains a matrix between its two factors"),
    (r"\.lora_diag\b", "a KaSA, which trains a diagonal between its two factors"),
    (r"\.lora_A2\b", "an ABBA, whose update is an elementwise product of two low-rank products"),
    (r"\.hira_[AB]\b", "a HiRA, whose update is an elementwise product with the base weight"),
    (r"\.delora_[AB]\b", "a DeLoRA, which normalises each of its components"),
    (r"\.lily_[AB]\b", "a Lily, whose factors a router mixes among layers"),
    (r"\.lora_[AB]\d+\.|\.lora_route\b", "a mixture of LoRAs like HydraLoRA, whose factors a gate weighs by the input"),
    (r"lora_latent_mapping", "a LoRA-XS, which trains a small matrix between two fixed factors"),
    (r"\.lora_[ab]_scales$", "a quantised adapter of MLX, whose factors are packed integers"),
)
"""Part of a tensor's name → what the file is: methods whose update is no product of two trained factors."""

OTHER = re.compile(
    r"\.(?:hada_|lokr_|ia3_|on_input|b?oft_|vera_|[ab]1\.weight|lora_E|lora_[AB]\d|lora_route|lora_[ab]_scales"
    r"|lora_(?:mixer|AB|diag)\b|(?:hira|delora|lily)_)|lora_latent_mapping"
)
"""What all of these have in their names, to look at once."""

HALVES: Sequence[tuple[str, str, str]] = (
    (r"lora_[Aa](?=$|[._])", r"lora_[Bb](?=$|[._])", "lora_B"),
    (r"lora_[Bb](?=$|[._])", r"lora_[Aa](?=$|[._])", "lora_A"),
    (r"lora[._]down(?=$|[._])", r"lora[._]up(?=$|[._])", "lora_up"),
    (r"lora[._]up(?=$|[._])", r"lora[._]down(?=$|[._])", "lora_down"),
    (r"(?:^|[._])w_a(?=$|[._])", r"(?:^|[._])w_b(?=$|[._])", "w_b"),
    (r"(?:^|[._])w_b(?=$|[._])", r"(?:^|[._])w_a(?=$|[._])", "w_a"),
)
"""Names of one factor, of the other, and what that is called where there is none at all."""

FOREIGN_SUFFIXES = {
    ".pt": "a file of torch that holds no adapter",
    ".npz": "an archive of numpy arrays, as MLX wrote its first adapters",
    ".pkl": "a pickle, which is not unpacked",
    ".onnx": "an exported model",
}

ADVICE = f"convert it to PEFT's layout ({FILE_NAME} and adapter_model.safetensors)"

MOST_LISTED = 5

MOST_OPENED = 20
"""Files of a folder whose names of tensors are looked at."""


def refuse_other_methods(where: object, keys: Iterable[str]) -> None:
    """Refuse a file of another method, or of LoRA mixed with one.

    Raises
    ------
    AdapterError
        One of the names tells.

    >>> refuse_other_methods("x.safetensors", ["q.lora_down.weight", "k.hada_w1_a"])
    Traceback (most recent call last):
        ...
    lorarank.errors.AdapterError: x.safetensors: a LoHa of LyCORIS, whose update is an elementwise product of two \
low-rank products; it has no rank of LoRA's kind. Name an adapter that was trained with LoRA.
    """
    keys = [key for key in keys if OTHER.search(key)]
    for pattern, what in NOT_LORA if keys else ():
        if any(re.search(pattern, key) for key in keys):
            raise AdapterError(where, what, why="it has no rank of LoRA's kind", do=OTHER_METHOD)


def declined(candidate: Candidate) -> AdapterError:
    """Say what a folder or file is that no reader takes.

    Returns
    -------
    error : to raise.

    Raises
    ------
    SourceError, AdapterError
        The file cannot be read, or is damaged.
    """
    if candidate.store is not None:
        return _declined_tensors(candidate.store.path, list(candidate.store.tensors))
    if candidate.path.is_dir():
        return _declined_folder(candidate.path)
    what = FOREIGN_SUFFIXES.get(candidate.path.suffix, "no file of an adapter")
    return AdapterError(candidate.path, what, do="name an adapter's folder, its .safetensors file, or a hub id")


def _declined_folder(folder: Path) -> AdapterError:
    entries = sorted(islice(folder.iterdir(), MOST_SEEN))
    inside = sorted((entry.name for entry in entries if (entry / FILE_NAME).is_file()), key=natural_order)
    files = [entry.name for entry in tensor_files(folder)]
    if inside:
        what = f"holds no {FILE_NAME} itself, but {_listed(inside)} in it {'does' if len(inside) == 1 else 'do'}"
        # of a trainer's checkpoints the last is what it ended with
        return AdapterError(folder, what, do=f"name {folder / inside[-1]}" + (", or another" if inside[1:] else ""))
    if files:
        verdicts = {verdict.what: verdict for verdict in _verdicts(folder, files)}
        if len(verdicts) == 1:
            (verdict,) = verdicts.values()
            return AdapterError(
                folder, f"in each of its {len(files)} files: {verdict.what}", why=verdict.why, do=verdict.do
            )
        what = f"holds no {FILE_NAME}, but {len(files)} files of tensors: {_listed(files)}"
        return AdapterError(folder, what, do="name one of them")
    if (folder / "config.json").is_file():
        return AdapterError(folder, "a model's folder (config.json), not an adapter's")
    found = _listed([entry.name for entry in entries]) or "nothing"
    return AdapterError(folder, f"no adapter in it (found: {found})", do=f"name the folder that holds {FILE_NAME}")


def _verdicts(folder: Path, files: Sequence[str]) -> list[AdapterError]:
    """Why each of a few files is declined; nothing where any may be an adapter."""
    if len(files) > MOST_OPENED or not all(name.endswith(".safetensors") for name in files):
        return []
    found = [_verdict(folder / name, list(SafetensorsFile.open(folder / name).tensors)) for name in files]
    return [] if None in found else [verdict for verdict in found if verdict is not None]


def _verdict(path: Path, keys: Sequence[str]) -> AdapterError | None:
    """Why the names of some tensors rule out an adapter of LoRA, where they do."""
    try:
        refuse_other_methods(path, keys)
    except AdapterError as error:
        return error
    whole = [key for key in keys if key.endswith((".diff", ".diff_b", ".alpha"))]
    all_keys, keys = keys, [key for key in keys if "lora" in key or "w_" in key]
    for one, other, name in HALVES:
        halves = [key for key in keys if re.search(one, key)]
        if halves and not any(re.search(other, key) for key in keys):
            return AdapterError(
                f"{path}: {halves[0]}",
                f"none of its {len(halves)} factors has a partner {name}",
                why="the update needs both",
                do="save both factors",
            )
    if whole and len(whole) == len(all_keys):
        return AdapterError(path, f"{len(whole)} differences of whole weights", why="nothing in it has a rank")
    return None


def _declined_tensors(path: Path, keys: Sequence[str]) -> AdapterError:
    if not keys:
        return AdapterError(path, "holds no tensors")
    what = f"its {len(keys)} tensors have names of no known adapter ({_listed(keys)})"
    model = all(key.endswith((".weight", ".bias")) for key in keys)
    advice = f"{ADVICE}; a full fine-tune is for --base" if model else ADVICE
    return _verdict(path, keys) or AdapterError(path, what, do=advice)


def _listed(names: Sequence[str]) -> str:
    """The first few names and how many there are beyond them.

    >>> _listed(list("abcdefg"))
    'a, b, c, d, e and 2 more'
    """
    rest = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")

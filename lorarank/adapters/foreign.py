"""What an adapter is that no reader takes: one sentence that says so (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path

from lorarank.adapters.adapter import natural_order
from lorarank.adapters.candidate import MOST_SEEN, Candidate, tensor_files
from lorarank.adapters.peft_config import FILE_NAME, OTHER_METHOD
from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.adapters.untrusted import open_regular
from lorarank.errors import AdapterError
from lorarank.wording import first_few

MIXTURE = "a mixture of LoRAs like HydraLoRA or LoRAMoE, whose factors a gate weighs by the input"

NOT_LORA: Sequence[tuple[str, str]] = (
    (r"\.hada_[wt][12]", "a LoHa of LyCORIS, whose update is an elementwise product of two low-rank products"),
    (r"\.lokr_[wt][12]", "a LoKr of LyCORIS, whose update is a Kronecker product"),
    (r"\.ia3_l\b|\.on_input$|_infused_adapter\.scalers?$", "an (IA)³, which rescales activations"),
    (r"\.multi_lora_[ab]$", "of T-Few, which rescales every weight, alone as (IA)³ or beside a LoRA"),
    (r"\.b?oft_", "an OFT, which multiplies the weights by rotations"),
    (r"\.p?vera_(?:lambda|[AB]\b)", "a VeRA, whose factors are random and shared"),
    (r"\.[ab]1\.weight$|\.glora_[A-E]\b", "a GLoRA, whose update depends on the base weight"),
    (r"\.lora_E(\.|$)", "an AdaLoRA, which puts learnt singular values between its factors"),
    (r"\.lora_(?:mixer|AB)\b", "a MoSLoRA, which trains a matrix between its two factors"),
    (r"\.lora_diag\b", "a KaSA, which trains a diagonal between its two factors"),
    (r"\.lora_[AB]0\.|\.lora_route\b", MIXTURE),
    (r"\.lora_A2\b", "an ABBA, whose update is an elementwise product of two low-rank products"),
    (r"\.hira_[AB]\b", "a HiRA, whose update is an elementwise product with the base weight"),
    (r"\.delora_[AB]\b", "a DeLoRA, which normalises each of its components"),
    (r"\.lily_[AB]\b", "a Lily, whose factors a router mixes among layers"),
    (r"\.lora_[AB]\d+\.|\.lora_[AB]\.lora[AB]\.\d", MIXTURE),
    (r"lora_latent_mapping|\.M_xs$", "a LoRA-XS, which trains a small matrix between two fixed factors"),
    (
        r"(?:proj|qkv)\.moe_gate\.weight$|^mixlora\.",
        "a mixture of LoRAs like MoLA or MixLoRA, whose factors a gate weighs by the input",
    ),
    (r"\.lora_moe_(?:gating|experts)\.", "a Conv-LoRA, which convolves between its two factors"),
    (r"\.lora\.gate$", "a SoRA, which trains a gate between its two factors"),
    (r"\.lora_(?:shared|tasks)_[AB]\b", "an MTLoRA, of which every task has factors of its own"),
    (r"\.lora_[ab]_scales$", "a quantised adapter of MLX, whose factors are packed integers"),
    (r"\.vblora_", "a VB-LoRA, which draws its factors from a shared bank of vectors"),
    (r"\.randlora_", "a RandLoRA, whose update is a sum over shared random bases, of full rank"),
    (r"\.lambda_layer$|_lora\.[qp]_layer\.", "a T-LoRA, which trains singular values between orthogonal factors"),
    (r"^[0-9]+\.temporal_[qkvo]\.", "LayerDiffuse's shared attention, which attends to several images at once"),
    (r"\.gralora_[AB]\b", "a GraLoRA, which splits every weight into blocks with factors of their own"),
    (r"\.tinylora_", "a TinyLoRA, which trains a short vector between fixed factors"),
    (r"\.unilora_", "a Uni-LoRA, whose factors are projected from one short vector"),
    (r"\.poly_(?:lora|router)", "a Poly, whose factors a router mixes"),
    (r"\.internal_xlora_classifier\b", "the gate of an X-LoRA, which mixes several LoRA adapters"),
    (r"\.fourierft_spectrum\b", "a FourierFT, which learns spectral coefficients"),
    (r"\.waveft_spectrum\b", "a WaveFT, which learns wavelet coefficients"),
    (r"\.shira_|\.supertuning_", "a SHiRA or Super-Tuning, which trains single entries of every weight"),
    (
        r"\.shadow_(?:down|up|update_\w+)\.",
        "a SHADOW, whose small network beside the model corrects what layers are given",
    ),
    (r"\.c3a_kernel\b", "a C3A, whose update is made of circulant blocks"),
    (r"^lllite_", "a ControlNet-LLLite, whose layers add what they make of an image"),
    (
        r"\.(?:miss|bone)_block\b|\.(?:bone|disha)$",
        "a MiSS, Bone or DiSHA, which trains one matrix for many blocks of a weight",
    ),
    (r"\.time_state$", "state tuning of RWKV, which trains the states that a model begins with"),
    (
        r"\.adapter_layer\.(?:adapter|linear)_[12]\.|\.adaptmlp\.",
        "a bottleneck adapter, with a function between its two matrices",
    ),
    (r"(?:^|\.)rotate_layer(?:\.|$)", "a ReFT, which edits activations"),
    (r"(?:^|\.)FacT[uv]\.|_FacTs\.", "a FacT, whose update is a tensor that layers share"),
    (r"(?:^|\.)reins\.learnable_tokens", "a Rein, which refines what layers give by learnt tokens"),
    (r"\.adapter_(?:bias|scale)$", "a LLaMA-Adapter of the second kind, which trains biases and scales"),
    (r"\.road_(?:theta|alpha)\b", "a RoAd, which rotates and scales outputs in pairs"),
    (r"\.hra_u\b", "an HRA, which multiplies the weights by reflections"),
    (r"\.psoft_R\b", "a PSOFT, which trains a rotation between two fixed factors"),
    (r"\.osf_svd_params\b", "an OSF, which trains the lesser singular vectors of every weight"),
    (r"\.deft_[PR]\b", "a DEFT, which projects the base weight"),
    (r"\.peanut_[AB]\b", "a PEANuT, whose update is a small neural network of the base weight"),
    (r"\.frod_", "a FRoD, which trains a diagonal and a sparse matrix in a basis that layers share"),
    (r"\.adamss_", "an AdaMSS, which trains in subspaces of the base weight"),
    (r"\.beft_bias\b", "a BEFT, which trains biases alone"),
    (r"\.ln_tuning_layers\b", "LN tuning, which trains normalisation layers alone"),
    (
        r"\.adaption_(?:prompt|gate)\b|(?:^|\.)(?:deep_)?prompt_embeddings$|(?:^|\.)prefix_encoder\.|ptuning_adapter\."
        r"|^adapter_query\.weight$|\.adapter_wte\.|^prompt\.prompt(?:_key)?$",
        "prompt or prefix tuning, which trains virtual tokens",
    ),
)
"""Part of a tensor's name → what the file is: methods whose update is no product of two trained factors. Names of
PEFT's are those that its tuners save (``peft.tuners``, the ``prefix`` of each); bottlenecks are of NeMo
(``parallel_adapters.py``) and of MMS (transformers ``models/wav2vec2/modeling_wav2vec2.py``), Bone and states of
RWKV-PEFT (JL-er/RWKV-PEFT ``src/trainer.py``)."""

NO_ADAPTER: Sequence[tuple[str, bool, str]] = (
    (r"\.to_[kv]_ip\.|^ip_adapter|\.ip_adapter_", False, "an IP-Adapter, which attends to an image"),
    (r"^controlnet_|\bzero_convs\.|\binput_hint_block\.", False, "a ControlNet, which is a model beside the model"),
    (r"^(?:adapter\.)?body\.[0-9]+\.block[12]\.", False, "a T2I-Adapter, which is a model beside the model"),
    (r"_custom_diffusion\.", False, "a Custom Diffusion, which trains whole layers for keys and values"),
    (
        r"^(?:emb_params|clip_[gl]|\*|<[^<>]{1,99}>)$",
        True,
        "a textual inversion, which trains embeddings of new words",
    ),
    (r"\.delta$", True, "differences of singular values, as SVDiff trains them"),
)
"""Part of a tensor's name, whether all names have it, and what a file without factors then is: of
tencent-ailab/IP-Adapter and XLabs-AI/x-flux, of lllyasviel/ControlNet and diffusers
(``models/controlnets/controlnet.py``), of TencentARC/T2I-Adapter (``ldm/modules/encoders/adapter.py``), of diffusers
(``models/attention_processor.py``), of diffusers, the web UI and kohya, and of mkshing/svdiff-pytorch."""

MOST_NAMED = 5_000
"""Tensors of a file whose names are looked at for these; the largest ControlNets have about a thousand."""

DIFFERENCE = re.compile(r"(?:\.(?:diff|diff_b|diff_m|w_norm|b_norm)|::diff::0)$")
"""Of a whole tensor, which extraction writes where it has no factors: norms, biases, and Wan's modulation, ``diff_m``
in lightx2v's files; ``w_norm`` and ``b_norm`` where LyCORIS trained a norm, ``::diff::0`` in LayerDiffuse's."""

SETTINGS = (".alpha", ".dropout_p")
"""How names end that say how a module was trained and not what it learned."""

FACTOR = re.compile(r"\.lora_(?:[ABab]|down|up)(?:\.|$)")
"""Behind the name of a method it is a LoRA all the same, of a module with that name."""

OTHER = re.compile("|".join(pattern for pattern, _ in NOT_LORA))
"""Whether it is any of these, to look at once."""

COUNTED = re.compile(r"\.\d+(?=\.)")
"""The number of a layer or of an expert; names that differ in it alone are looked at once, since none of the patterns
asks for a certain one."""

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
    ".pkl": "a pickle, which is not unpacked",
    ".onnx": "an exported model",
    ".onnx_adapter": "an adapter exported for ONNX Runtime",
    ".npy": "an array of numpy, as TensorRT-LLM keeps all factors in one",
    ".nemo": "an archive of NeMo's",
    ".h5": "an HDF5 file, as Keras saves the weights of a LoRA",
    ".pdparams": "a pickle of Paddle's, which is not unpacked",
    ".msgpack": "a file of Flax",
    ".distcp": "a shard of a distributed checkpoint of torch",
}
"""What files are that no reader opens, by the ends of their names."""

CHECKPOINTS = {
    (".distcp",): "a distributed checkpoint of torch",
    ("_CHECKPOINT_METADATA", "manifest.ocdbt"): "a checkpoint of Orbax, as programs in JAX write it",
}
"""What folders are that no reader opens, by the ends of the names in them or one level below."""

ARCHIVE = b"PK\x03\x04"
"""First bytes of what ``torch.save`` writes, which img2img-turbo and OSEDiff call ``.pkl``."""

ADVICE = f"convert it to PEFT's layout ({FILE_NAME} and adapter_model.safetensors) with the tool that it is from"

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
    found = ((key, OTHER.search(key)) for key in {COUNTED.sub(".0", key) for key in keys})
    keys = [key for key, match in found if match and not FACTOR.search(key, match.end())]
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
    return _foreign(candidate.path) or AdapterError(
        candidate.path, "no file of an adapter", do="name an adapter's folder, its .safetensors file, or a hub id"
    )


def _foreign(path: Path) -> AdapterError | None:
    """What a file of a format is that is not read here."""
    if path.suffix == ".pkl" and _starts_with(path, ARCHIVE):
        return AdapterError(path, "a file of torch by another name", why="pickles are not unpacked", do="name it .pt")
    if path.suffix == ".npz":
        return AdapterError(path, "an archive of numpy arrays", why="it may be data", do="name it, if it is an adapter")
    what = FOREIGN_SUFFIXES.get(path.suffix)
    return None if what is None else AdapterError(path, what, do=ADVICE)


def _starts_with(path: Path, first: bytes) -> bool:
    with open_regular(path) as file:
        return file.read(len(first)) == first


def _declined_folder(folder: Path) -> AdapterError:
    entries = sorted(islice(folder.iterdir(), MOST_SEEN))
    inside = sorted((entry.name for entry in entries if (entry / FILE_NAME).is_file()), key=natural_order)
    files = [entry.name for entry in tensor_files(folder)]
    if inside:
        do = "does" if len(inside) == 1 else "do"
        what = f"holds no {FILE_NAME} itself, but {first_few(inside, MOST_LISTED)} in it {do}"
        # of a trainer's checkpoints the last is what it ended with
        return AdapterError(folder, what, do=f"name {folder / inside[-1]}" + (", or another" if inside[1:] else ""))
    checkpoint = _checkpoint(entries)
    if checkpoint is not None:
        return AdapterError(folder, checkpoint, do=ADVICE)
    if files:
        verdicts = {verdict.what: verdict for verdict in _verdicts(folder, files)}
        if len(verdicts) == 1:
            (verdict,) = verdicts.values()
            return AdapterError(
                folder, f"in each of its {len(files)} files: {verdict.what}", why=verdict.why, do=verdict.do
            )
        what = f"holds no {FILE_NAME}, but {len(files)} files of tensors: {first_few(files, MOST_LISTED)}"
        return AdapterError(folder, what, do="name one of them")
    if (folder / "config.json").is_file():
        return AdapterError(folder, "a model's folder (config.json), not an adapter's")
    told = next(filter(None, map(_foreign, entries)), None)
    if told is not None:
        return told
    found = first_few([entry.name for entry in entries], MOST_LISTED) or "nothing"
    return AdapterError(folder, f"no adapter in it (found: {found})", do=f"name the folder that holds {FILE_NAME}")


def _checkpoint(entries: Sequence[Path]) -> str | None:
    """What a folder of these entries is, where it is the checkpoint of a trainer."""
    folders = [entry for entry in entries if entry.is_dir()][:MOST_OPENED]
    below = (entry for folder in folders for entry in islice(folder.iterdir(), MOST_OPENED))
    names = [entry.name for entry in chain(entries, below)]
    return next((what for ends, what in CHECKPOINTS.items() if any(name.endswith(ends) for name in names)), None)


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
    if keys and all(".trainable_tokens_" in key for key in keys):
        return AdapterError(path, "trains rows of an embedding alone", why="nothing in it has a rank", do=OTHER_METHOD)
    if "lora_controlnet" in keys:  # left there as a mark (comfyanonymous/ComfyUI comfy/controlnet.py)
        what, why = "a Control-LoRA", "it is a whole ControlNet, of which some layers are factors and others are not"
        return AdapterError(path, what, why=why, do=OTHER_METHOD)
    whole = [key for key in keys if DIFFERENCE.search(key) or key.endswith(".alpha")]
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
    if all_keys and all(key.endswith(SETTINGS) for key in all_keys):
        alphas = sum(key.endswith(SETTINGS[0]) for key in all_keys)
        what = f"the settings of {alphas} modules (alpha) and none of their factors"
        return AdapterError(path, what, why="whatever saved it left the weights out", do="save it again with them")
    if whole and len(whole) == len(all_keys):
        what = f"differences of whole weights alone ({len(whole)})"
        return AdapterError(path, what, why="nothing in it has a rank", do=OTHER_METHOD)
    for pattern, everywhere, what in NO_ADAPTER if not keys and 0 < len(all_keys) <= MOST_NAMED else ():
        if (all if everywhere else any)(re.search(pattern, key) for key in all_keys):
            return AdapterError(path, what, why="nothing in it has a rank of LoRA's kind", do=OTHER_METHOD)
    return None


def _declined_tensors(path: Path, keys: Sequence[str]) -> AdapterError:
    if not keys:
        return AdapterError(path, "holds no tensors")
    what = f"its {len(keys)} tensors have names of no known adapter ({first_few(keys, MOST_LISTED)})"
    model = all(key.endswith((".weight", ".bias")) for key in keys)
    advice = f"{ADVICE}; a full fine-tune is for --base" if model else ADVICE
    return _verdict(path, keys) or AdapterError(path, what, do=advice)

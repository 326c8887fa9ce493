"""LoRA of kohya's sd-scripts, LyCORIS and ComfyUI: ``lora_down``, ``lora_up``, ``alpha`` (floor 1).

ΔW = alpha/r · ``lora_up`` @ ``lora_down``, and r where no alpha is stored (kohya-ss/sd-scripts ``networks/lora.py``,
comfyanonymous/ComfyUI ``comfy/weight_adapter/lora.py``). LyCORIS writes rank stabilisation and its trained scalar into
the stored alpha and ``lora_up``. Its ``lora_mid`` is the core of a convolution in Tucker form: ``lora_down`` is 1×1,
the core (r, r, k, k), and what both make together is an ordinary ``lora_down`` (KohakuBlueleaf/LyCORIS
``lycoris/modules/locon.py``, ``lycoris/functional/general.py``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.candidate import Candidate, ending
from lorarank.adapters.factors import alpha_scaling, assemble, build
from lorarank.adapters.foreign import DIFFERENCE, refuse_other_methods
from lorarank.adapters.named_factors import Named, Role, collect
from lorarank.adapters.network_alpha import by_network_alpha
from lorarank.adapters.peft_config import NOTES, usable_alpha
from lorarank.adapters.tensors import Store, read_number
from lorarank.adapters.tool_names import names_of

HUB_FILES = ("*[lL][oO][rR][aA]*.safetensors", "*[lL]y[cC][oO][rR][iI][sS]*.safetensors")
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<part>down|up|mid)(?P<split>\.[0-9]{1,2})?(?:\.default)?\.weight")
"""With a number where queries, keys and values of one layer have factors each (``split_dims`` in kohya-ss/sd-scripts
``networks/lora_flux.py``, which joins them when it saves) and one alpha between them."""

ALPHA = re.compile(r"(?P<module>.+)\.(?:lora_)?alpha")

SPLIT = re.compile(r"\.lora_down\.([0-9]{1,2})\.")
"""In the name of a factor of a part."""

SCALED = (
    "A scale is stored for {} of {} modules: it is their scaling, as the web UIs and stable-diffusion.cpp take it "
    "before an alpha; kohya's own tools and ComfyUI know the alpha alone."
)
"""AUTOMATIC1111/stable-diffusion-webui ``extensions-builtin/Lora/network.py`` and vladmandic/sdnext
``modules/lora/network.py`` (``calc_scale``), leejet/stable-diffusion.cpp ``src/model/adapter/lora.hpp``."""

SPARSE = (
    "The updates of {} modules have a sparse part too, which LyCORIS' extraction keeps beside the factors: it is "
    "carried, not measured."
)
"""``bias_indices``, ``bias_values`` and ``bias_size`` (``--use_sparse_bias``, KohakuBlueleaf/LyCORIS
``tools/extract_locon.py``, ``lycoris/utils/__init__.py``)."""

PARTS = {"down": "A", "up": "B", "mid": "mid"}


def recognises(candidate: Candidate) -> bool:
    """Whether any tensor is named as kohya names factors, and none as another tool that has the same words.

    >>> FACTOR.fullmatch("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight")["part"]
    'down'
    """
    return candidate.has(FACTOR) and names_of(candidate.keys) is None


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name.

    >>> role_of("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight")
    ('lora_te_text_model_encoder_layers_0_mlp_fc1', 'B')
    >>> role_of("diffusion_model.blocks.0.ffn.0.alpha")
    ('diffusion_model.blocks.0.ffn.0', 'alpha')
    """
    start, end = ending(key)
    match = FACTOR.fullmatch(end)
    if match:
        return start + match["module"] + (match["split"] or ""), PARTS[match["part"]]
    match = ALPHA.fullmatch(end)
    return (start + match["module"], "alpha") if match else None


def indexed(module: str) -> str:
    """A name with underscores for dots, its dots given back around the numbers in the middle of it.

    Those are places in lists of blocks; whether another underscore was a dot is not stored (``img_attn_qkv`` of
    HunyuanVideo is ``img_attn.qkv`` in Flux). Every dot put back as an underscore gives the stored name again.

    >>> indexed("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0")
    'lora_unet_input_blocks.4.1.transformer_blocks.0.attn1_to_out_0'
    >>> indexed("diffusion_model.blocks.0.self_attn.q")
    'diffusion_model.blocks.0.self_attn.q'
    """
    return module if "." in module else re.sub(r"(\.[0-9]+)_", r"\1.", re.sub(r"_([0-9]+)(?=_)", r".\1", module))


def read(candidate: Candidate) -> Adapter:
    """Read an adapter in kohya's layout.

    Raises
    ------
    AdapterError
        Factors that do not fit, an unusable alpha, or parts of another method.
    """
    store = candidate.tensors
    refuse_other_methods(store.path, store.tensors)
    found, carried = collect(store.tensors, role_of, store.path)
    rest = frozenset(carried)
    found = [_named(one, rest) for one in found]
    scales = {one.module: key for one in found if (key := f"{one.A.partition('.lora_down.')[0]}.scale") in rest}
    used = {one.alpha for one in found}.union(scales.values())
    carried = tuple(key for key in carried if key not in used)
    modules = [build(store, one, _scaling(store, one, scales.get(one.module))) for one in found]
    notes = _notes(carried)
    if scales:
        notes.append(SCALED.format(len(scales), len(found)))
    by_entry = None if scales else by_network_alpha(modules, store)
    unscaled = sum(one.alpha is None and one.module not in scales for one in found)
    if by_entry is not None:
        modules = by_entry[0]
        notes.append(by_entry[1])
    elif unscaled:
        notes.append(f"No alpha is stored for {unscaled} of {len(found)} modules: scaling 1, as every loader takes it.")
    if any(module.scaling == 0 for module in modules):
        notes.append(
            "An alpha of 0 is stored: scaling 0, as ComfyUI and diffusers take it; kohya's own loader takes 1."
        )
    base = candidate.metadata.get("ss_sd_model_name")
    return assemble(candidate, "kohya", modules, carried, notes=notes, base_model=base or None)


def _named(one: Named, alphas: frozenset[str]) -> Named:
    """The same under a readable name, and a part of a layer with the alpha that all its parts have between them.

    >>> _named(Named("qkv.0", "qkv.lora_down.0.weight", "qkv.lora_up.0.weight"), frozenset({"qkv.alpha"})).alpha
    'qkv.alpha'
    """
    match = SPLIT.search(one.A)
    if match is None:
        return one._replace(module=indexed(one.module))
    stem = one.A[: match.start()]
    return one._replace(
        module=f"{indexed(stem)}.{match[1]}", alpha=f"{stem}.alpha" if f"{stem}.alpha" in alphas else None
    )


def _scaling(store: Store, one: Named, scale: str | None) -> float:
    """What the product is multiplied by: the number under ``scale``, or alpha/r."""
    if scale is None:
        return alpha_scaling(store, one)
    return usable_alpha(read_number(store, scale), f"{store.path}: {scale}")


def _notes(carried: Sequence[str]) -> list[str]:
    notes = []
    if any(key.endswith(".dora_scale") for key in carried):
        notes.append(NOTES["use_dora"])
    sparse = sum(key.endswith(".bias_values") for key in carried)
    if sparse:
        notes.append(SPARSE.format(sparse))
    whole = sum(DIFFERENCE.search(key) is not None or key.endswith(".set_weight") for key in carried)
    if whole:
        notes.append(
            f"{whole} tensors are differences of a whole weight or bias, which have no rank; they are carried."
        )
    return notes

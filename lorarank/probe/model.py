"""The base model on its device, with its adapter (floor 2, torch): loading, precision, the adapter's weights."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from lorarank.errors import ModelError, OptionError, first_line, needing
from lorarank.probe.options import ProbeOptions
from lorarank.probe.placement import map_of_4_bits

ADAPTER = "default"
"""PEFT's name for the one adapter on the model."""

TODAY = datetime.date(2024, 7, 26)
"""What chat templates that write today's date are told: the date that Llama's have where no clock is."""

ASKS_THE_DATE = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")


def choose_device(wanted: str) -> torch.device:
    """The torch device: ``auto`` takes a GPU where there is one.

    Raises
    ------
    OptionError
        The device is unknown or not there.
    """
    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error, 1000)
        raise OptionError(f"--device {wanted}", f"it cannot be used ({reason})", do="leave --device out") from None
    return device


def choose_precision(device: torch.device) -> torch.dtype:
    """The base's dtype: bf16 on GPUs and CPUs that compute in it, else fp32. The factors are fp32 always."""
    if device.type == "cuda":
        # torch itself says yes of GPUs before Ampere (T4, V100), which emulate bf16 and are slow at it
        native = torch.version.hip or torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float32
    if device.type == "cpu":
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return torch.bfloat16 if native or getattr(torch.cpu, "_is_amx_tile_supported", bool)() else torch.float32
    return torch.float32


def load_dtype(options: ProbeOptions, device: torch.device) -> torch.dtype:
    """In which dtype the base computes: :func:`choose_precision`, or QLoRA's bf16."""
    return torch.bfloat16 if options.load_in_4bit else choose_precision(device)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in ``folder``; code that comes with a model is never run.

    Its chat template has the same date on every day, so that what is gone on with tomorrow has the tokens of today.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelError(folder, f"its tokenizer cannot be loaded ({first_line(error)})") from None
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        tokenizer.chat_template = {name: dated(text) for name, text in template.items()}
    elif template:
        tokenizer.chat_template = dated(template)
    return tokenizer


def dated(template: str) -> str:
    """A chat template that says :data:`TODAY` where it would have asked for the date.

    >>> dated('{%- set date = strftime_now("%d %b %Y") %}')
    "{%- set date = '26 Jul 2024' %}"
    """
    return ASKS_THE_DATE.sub(lambda call: repr(TODAY.strftime(call[2])), template)


def load_config(folder: Path) -> Any:
    """The configuration in ``folder``."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            folder, f"its config.json cannot be used ({first_line(error)})", do="give the folder of a model"
        ) from None


def skeleton(config: Any, folder: Path) -> Any:
    """The model without weights, on the meta device: shapes and names only.

    It is in bfloat16 and as in evaluation, which some kernels insist on even there.
    """
    if getattr(config, "is_encoder_decoder", False):  # transformers would take the decoder alone, and half of it idle
        raise ModelError(
            folder, "it is an encoder and a decoder, and no causal language model", do="give a causal language model"
        )
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False).eval().to(torch.bfloat16)
    except Exception as error:
        raise ModelError(folder, f"it is not a causal language model ({first_line(error)})") from None


def load_base(folder: Path, options: ProbeOptions, device: torch.device, dtype: torch.dtype) -> Any:
    """The base model with its weights, on ``device``, frozen; 4-bit as QLoRA does it where asked."""
    arguments: dict[str, Any] = {"dtype": dtype, "trust_remote_code": False}
    if options.load_in_4bit:
        with needing("--load-in-4bit", "bitsandbytes", extra="4bit"):
            import bitsandbytes  # noqa: F401  (transformers' own message is a paragraph)
        arguments["device_map"] = map_of_4_bits(folder, device, options.device)
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    elif device.type not in ("cpu", "mps"):
        arguments["device_map"] = {"": str(device)}  # never the whole of it in the memory of the processor
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, **arguments)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(folder, f"its weights cannot be loaded ({first_line(error)})") from None
    model.config.use_cache = False
    if not options.load_in_4bit:
        model = model.to(device)
    return model


def attach_adapter(model: Any, options: ProbeOptions, names: tuple[str, ...]) -> PeftModel:
    """``model`` with a fresh LoRA adapter of rank R on ``names``: A random by ``seed``, B zero, both fp32."""
    if options.load_in_4bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=options.gradient_checkpointing)
    elif options.gradient_checkpointing:
        model.enable_input_require_grads()
    torch.manual_seed(options.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=0.0,  # dropout would add noise to the very spectrum that is to be measured
        target_modules=list(names),
        bias="none",
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),
    )
    adapted = get_peft_model(model, config)
    if not isinstance(adapted, PeftModel):
        raise TypeError("get_peft_model did not return a PeftModel")
    return adapted


def lora_layers(model: PeftModel) -> dict[str, Any]:
    """Path in the base model → PEFT's LoRA layer, in the model's order."""
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and ADAPTER in module.lora_A
    }


def adapter_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """A copy of the trainable tensors, to return to the same start."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def restore_weights(model: PeftModel, weights: dict[str, torch.Tensor]) -> None:
    """Put a copy made by :func:`adapter_weights` back."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


@contextlib.contextmanager
def scaled(layers: dict[str, Any], factor: float) -> Iterator[None]:
    """Within the block, the updates of ``layers`` count ``factor`` times; 0 switches them off."""
    before = {name: layer.scaling[ADAPTER] for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.scaling[ADAPTER] *= factor
        yield
    finally:
        for name, layer in layers.items():
            layer.scaling[ADAPTER] = before[name]

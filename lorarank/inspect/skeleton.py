"""A model without its weights: layers from its configuration, on torch's meta device (floor 2).

torch and transformers are imported when they are asked for: they take seconds and are an extra.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorarank.errors import MissingExtraError, ModelError, first_line
from lorarank.inspect.layers import HEAD, Layer, Layers, parents
from lorarank.inspect.targets import RENAMED
from lorarank.layer_kinds import loaded_stack
from lorarank.model_shapes import from_config, read_configuration
from lorarank.sources import folder_at

ROUTER_DIMENSIONS = 2
"""Of the weight of a router: (experts, in)."""


def from_configuration(path: Path) -> Layers:
    """Layers of the model that a configuration describes.

    Parameters
    ----------
    path : the folder of ``config.json``, or that file. Code that comes with a model is never run.

    Raises
    ------
    MissingExtraError
        transformers is not installed, and the model is none of those whose shapes follow from it directly.
    ModelError
        It is no configuration of a model that transformers knows.
    """
    try:
        import torch
        import transformers
    except ImportError:
        return _plain(path)
    read_configuration(path / "config.json" if path.is_dir() else path)  # transformers opens pipes, and builds anything
    with _quietly(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
            with torch.device("meta"):
                model = _class(transformers, config)(config)
        except Exception as error:  # whatever a stranger's configuration makes transformers do
            raise ModelError(
                path,
                f"transformers {transformers.__version__} builds no model from its config.json ({first_line(error)})",
                do="give the folder of a model, or one with its safetensors files",
            ) from None
    return _layers(model, _family(config))


def _plain(path: Path) -> Layers:
    """Without transformers: what follows from the configuration of a Llama-like model."""
    folder = folder_at(path)
    try:
        shapes = from_config(folder)
    except ModelError:
        raise MissingExtraError("inspect (of a model without safetensors files)", "transformers", "probe") from None
    layers = tuple(Layer(name, "linear", *shape) for name, shape in shapes.linear.items())
    containers = parents({layer.name for layer in layers})
    return Layers(layers, containers, shapes.parameters, "config.json, without transformers: no embeddings or norms")


def _class(transformers: Any, config: Any) -> Any:
    """The model class that the configuration names, else the one transformers would choose.

    Of an encoder and a decoder the class that holds both comes first: the causal one is the decoder alone.
    """
    for name in config.architectures or ():
        found = getattr(transformers, str(name), None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    both = (transformers.AutoModelForSeq2SeqLM, transformers.AutoModelForSpeechSeq2Seq)
    causal = (transformers.AutoModelForCausalLM,)
    first = (*both, *causal) if getattr(config, "is_encoder_decoder", False) else (*causal, *both)
    for auto in (*first, transformers.AutoModel):
        if type(config) in auto._model_mapping:
            found = auto._model_mapping[type(config)]
            return found[0] if isinstance(found, list | tuple) else found
    raise ValueError(f"it has no model class for {config.model_type}")


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Without the remarks on configurations that transformers makes; errors still come."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    try:
        logging.set_verbosity_error()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _family(config: Any) -> str:
    """Of which older architecture transformers stacks the experts, where PEFT knows that one."""
    try:
        table = importlib.import_module("transformers.conversion_mapping")._MODEL_TO_CONVERSION_PATTERN
    except (ImportError, AttributeError):  # it is no public name
        table = {}
    # PEFT 0.21 adds mixtral itself to the table, and not qwen2_moe
    family = ({"mixtral": "mixtral"} | table).get(config.model_type, "")
    return family if family in RENAMED else ""


def _layers(model: Any, family: str) -> Layers:
    head = model.get_output_embeddings()
    layers, containers = [], []
    for name, module in model.named_modules():
        found = list(_of_module(name, module, module is head))
        layers += found
        if name and not any(layer.name == name for layer in found):
            containers.append(name)
    return Layers(
        tuple(layers),
        tuple(containers),
        sum(parameter.numel() for parameter in model.parameters()),
        f"config.json, as {type(model).__name__} on the meta device",
        family if any(layer.kind == "experts" for layer in layers) else "",
    )


def _of_module(name: str, module: Any, is_head: bool) -> Iterator[Layer]:
    """What PEFT could adapt of one module (``peft.tuners.lora.model``, ``layer.dispatch_default``)."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if is_head or (isinstance(module, nn.Linear) and HEAD.search(name)):
        yield Layer(name, "head", *module.weight.shape)
    elif isinstance(module, nn.Linear):
        yield Layer(name, "linear", module.out_features, module.in_features)
    elif isinstance(module, Conv1D):
        yield Layer(name, "Conv1D", module.weight.shape[1], module.weight.shape[0])
    elif isinstance(module, nn.Embedding):
        yield Layer(name, "embedding", module.embedding_dim, module.num_embeddings)
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        yield Layer(name, "conv", module.out_channels, module.weight[0].numel())
    else:
        for key, parameter in module.named_parameters(recurse=False):
            if loaded_stack(f"{name}.{key}", parameter.dim()):
                count, out_features, in_features = parameter.shape
                yield Layer(f"{name}.{key}", "experts", out_features, in_features, count)
            elif name.endswith(".gate") and key == "weight" and parameter.dim() == ROUTER_DIMENSIONS:
                yield Layer(f"{name}.{key}", "router", *parameter.shape)

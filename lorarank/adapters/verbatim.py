"""Stored tensors copied byte for byte: what an adapter carries beside its factors (floor 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.layout import CODES, Block, Slot
from lorarank.adapters.network_alpha import ENTRY, network_alpha
from lorarank.adapters.replacement import Replacement
from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.adapters.store import Shards
from lorarank.adapters.tensors import Store
from lorarank.adapters.torch_file import TorchFile
from lorarank.adapters.untrusted import open_regular
from lorarank.errors import AdapterError

HASHES = ("sshs_model_hash", "sshs_legacy_hash")
"""Entries of kohya's and others' metadata that hold hashes of all tensors."""


def copied(adapter: Adapter, key: str, name: str | None = None) -> Block:
    """A stored tensor under the same or another name, its bytes read when they are written.

    Raises
    ------
    AdapterError
        It lies in a kind of file, or has a dtype, that cannot be copied from.
    """
    store = adapter.store
    where = f"{adapter.source}: {key}"
    if store is None or key not in store.tensors:
        raise AdapterError(where, "it is no LoRA factor, and from this format it cannot be copied")
    tensor = store.tensors[key]
    if tensor.dtype not in CODES:
        raise AdapterError(where, f"stored as {tensor.dtype}, which safetensors does not know")
    return Block((Slot(name or key, tensor.dtype, tensor.shape),), _reader(store, key, where))


def check_biases(adapter: Adapter, replacements: Sequence[Replacement]) -> None:
    """Refuse a bias of a ``lora_B`` whose scaling would change: AdapterError. PEFT multiplies it by the scaling as well
    (``lora_bias``), so that its bytes would not be what they were."""
    for one in replacements:
        key = one.module.keys[-1].removesuffix("weight") + "bias"
        if key in adapter.carried and one.scaling != one.module.scaling:
            raise AdapterError(
                f"{adapter.source}: {key}",
                "a bias, which PEFT multiplies by the scaling, and that would change",
                do="write PEFT's layout without --bake-alpha",
            )


def kept_metadata(adapter: Adapter) -> dict[str, str]:
    """The metadata of the file that an adapter was read from, without hashes and without an alpha that counts: those
    are of other numbers."""
    stored = adapter.store.metadata if isinstance(adapter.store, SafetensorsFile) else {}
    gone = HASHES if adapter.store is None or network_alpha(adapter.store) is None else (*HASHES, ENTRY)
    return {"format": "pt"} | {key: text for key, text in stored.items() if key not in gone}


def _reader(store: Store, key: str, where: str) -> Callable[[], list[bytes]]:
    if isinstance(store, Shards):
        return _reader(store.homes[key], key, where)
    if isinstance(store, SafetensorsFile):
        file = store
        return lambda: [_from_safetensors(file, key)]
    if isinstance(store, TorchFile):
        loaded = store
        return lambda: [_from_torch(loaded, key)]
    raise AdapterError(where, "it is no LoRA factor, and from this format it cannot be copied")


def _from_safetensors(store: SafetensorsFile, key: str) -> bytes:
    tensor = store.tensors[key]
    size = Slot(key, tensor.dtype, tensor.shape).bytes
    content = bytearray()
    with open_regular(store.path) as file:
        file.seek(store.starts[key])
        while len(content) < size:
            piece = file.read(size - len(content))
            if not piece:
                raise AdapterError(f"{store.path}: {key}", "the file was cut short while it was open")
            content += piece
    return bytes(content)


def _from_torch(store: TorchFile, key: str) -> bytes:
    import torch

    flat = store.mapped[key].detach().contiguous().reshape(-1)
    array: np.ndarray[tuple[int], np.dtype[np.uint8]] = flat.view(torch.uint8).numpy()
    return array.tobytes()

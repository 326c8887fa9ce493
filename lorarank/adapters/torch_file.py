"""A ``.bin`` or ``.pt`` file as ``torch.save`` writes it: weights-only loading, never unpickling code (floor 1).

The archive is checked first: nothing in it may be compressed, so that it cannot unfold into more than its own size.
torch is imported here alone, and only when such a file is opened.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorarank.adapters.peft_config import OTHER_METHOD
from lorarank.adapters.tensors import LONGEST_NAME, MOST_DIMENSIONS, NARROW, Numbers, StoredTensor, raw_dtype
from lorarank.adapters.untrusted import open_regular
from lorarank.errors import AdapterError, MissingExtraError

if TYPE_CHECKING:
    from zipfile import ZipInfo

    import torch

PICKLE = ".pkl"
"""What the part of the archive that describes the tensors ends with."""

MOST_PICKLE_BYTES = 2_000_000
"""Of that part: about 170 bytes a tensor in real ones, and each byte can cost torch's unpickler a microsecond and 70
bytes of memory."""

MOST_DIRECTORY_BYTES = 4_000_000
"""The part that lists the entries, one a tensor: about 70 bytes each."""

AT_OFFSET = 42
"""Where an entry in that list says where its data begin."""

UNBOUNDED = re.compile(rb"c[\w.]+\n(bytearray|encode)\n")
"""Functions that torch's unpickler does call, and that take any memory or time by a few bytes in the file."""

CALLED = re.compile(r"GLOBAL ([\w.]+)")
"""What torch's refusal names as the function that the file asks to call."""

INSIDE = (
    "state_dict",
    "model_state_dict",
    "model",
    "lora",
    "lora_state_dict",
    "module",
    "ip_adapter",
    "lora_weights",
)
"""Under which checkpoints of Lightning, LitGPT, Microsoft's loralib, DeepSpeed, IP-Adapter (FaceID: LoRA beside its own
projections) and PhotoMaker (beside its encoder) keep their tensors, where others lie beside them."""

NOT_INSIDE = re.compile(r"optim|scheduler|scaler|rng|callbacks|loops")
"""In what they call the tensors that only a training goes on with."""

MOST_LEVELS = 4
"""Of dictionaries in one another; Mix-of-Show has three, CLIP-LoRA too."""

MOST_PLAIN_LEVELS = 32
"""Of those without a tensor: configurations, which Lightning keeps beside the weights."""

MOST_ENTRIES = 100_000
"""In all dictionaries together: one that stands in many places is counted everywhere."""

LARGEST = 2**63
"""Whole numbers from here on are none that a configuration has, and float64 ends."""

MARKED = re.compile(rb"[0-9]{2}\x03\x04")
"""First bytes of GPT-SoVITS's files, which writes its version over the two letters of an archive's (``my_save2``,
RVC-Boss/GPT-SoVITS ``GPT_SoVITS/process_ckpt.py``)."""

LETTERS = b"PK"
"""What was there, and has to be for torch."""

MOST_MARKED_BYTES = 2**30
"""Of such a file, which is read into memory as a whole; no adapter needs more."""

GGLA = b"algg"
"""First bytes of a LoRA of llama.cpp from before GGUF."""

SQLITE = b"SQLi"
"""First bytes of a database, as Draw Things keeps models and adapters in."""

CONVERT = "convert it to safetensors where it comes from"


@dataclass(frozen=True)
class TorchFile:
    """A loaded ``.bin`` file, mapped into memory rather than read.

    Attributes
    ----------
    path : of the file.
    tensors : what is stored under each name; of a list, under each position, ``"0"`` first; of dictionaries in one
        another, under their names with dots between, without that of a checkpoint's only one or one of :data:`INSIDE`.
    mapped : the tensors themselves; a number in a dictionary is one of no dimension.
    plain : dictionaries without tensors, by name: configurations.
    size : of the file when it was opened.
    left : under which names beside the one of :data:`INSIDE` there are other tensors, which are not read.
    copies : under which there are tensors of the same names, as averages are.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    mapped: Mapping[str, torch.Tensor] = field(repr=False)
    size: int = field(repr=False)
    plain: Mapping[str, Any] = field(repr=False)
    left: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path) -> TorchFile:
        """Load a file of named tensors.

        Raises
        ------
        MissingExtraError
            torch is not installed.
        SourceError
            The file cannot be read.
        AdapterError
            It is damaged, or holds anything but named tensors.
        """
        try:
            import torch
        except ImportError:
            raise MissingExtraError(str(path), "torch", "probe") from None
        size, marked = _check_archive(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is odd about the file is refused or does not matter
                source = _restored(path) if marked else str(path)
                loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=not marked)
        except Exception as error:  # torch raises whatever its unpickler stumbles over
            called = CALLED.search(str(error))
            what = f"it asks to call {called[1]}" if called else "it is damaged or holds other objects"
            raise _no_tensors(path, what) from None
        spread = _Spread(path)
        if isinstance(loaded, list | tuple):
            mapped = {str(place): value for place, value in enumerate(loaded)}
        elif isinstance(loaded, dict) and all(isinstance(key, str) for key in loaded):
            mapped = spread.tensors(loaded)
        elif isinstance(loaded, dict) and any(map(_is_pair_of_networks, loaded.values())):
            raise AdapterError(
                path,
                "a hypernetwork of the web UI, which has small networks for keys and values",
                why="what lies between their layers is not linear",
                do=OTHER_METHOD,
            )
        else:
            raise AdapterError(path, f"holds a {type(loaded).__name__}, not tensors by name", do=CONVERT)
        tensors = {key: _stored(key, value, path) for key, value in mapped.items()}
        return cls(path, tensors, mapped, size, spread.plain, left=spread.left, copies=spread.copies)

    def read(self, key: str, dtype: str | None = None) -> Numbers:
        """The tensor of that name, see :class:`~lorarank.adapters.tensors.Store`."""
        import torch

        if _shorter(self.path, self.size):  # to touch what is mapped and gone would end the process
            raise AdapterError(f"{self.path}: {key}", "the file was cut short while it was open")
        dtype = dtype or NARROW[self.tensors[key].dtype]
        own = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "bfloat16": torch.bfloat16}
        tensor = self.mapped[key].detach().to(own[dtype], copy=True)
        if dtype == "bfloat16":  # which torch does not hand to numpy
            return np.asarray(tensor.view(torch.int16).numpy().view(raw_dtype(dtype)))
        return np.asarray(tensor.numpy())


class _Spread:
    """The tensors of a file by name, whatever dictionaries they lie in."""

    def __init__(self, path: Path) -> None:
        self.plain: dict[str, Any] = {}
        self.left: tuple[str, ...] = ()
        self.copies: tuple[str, ...] = ()
        self._path = path
        self._entries = 0

    def tensors(self, loaded: dict[str, Any]) -> dict[str, Any]:
        """Tensors, and whatever else is of no plain kind, which is for :func:`_stored` to refuse.

        >>> import torch
        >>> spread = _Spread(Path("x.pt"))
        >>> list(spread.tensors({"weight": {"q": {"lora_A": torch.ones(1), "scaling": 2.0}}, "config": {"r": 8}}))
        ['q.lora_A', 'q.scaling']
        >>> spread.plain
        {'config': {'r': 8}}
        """
        below = {key: value for key, value in loaded.items() if isinstance(value, dict) and not NOT_INSIDE.search(key)}
        self.plain = {key: value for key, value in below.items() if not self._has_tensors(value)}
        held = [key for key in below if key not in self.plain]
        named = [key for key in INSIDE if key in held]
        if len(named) > 1:
            raise AdapterError(
                f"{self._path}: {named[0]}", f"a dict where a tensor is needed, beside {named[1]}", do=CONVERT
            )
        alone = len(held) == 1 and not any(map(_is_tensor, loaded.values()))
        if named and not self._is_whole(loaded, held, below[named[0]]):
            named = []
        if named or alone:
            return self._spread(below[(named or held)[0]])
        return self._spread({key: one for key, one in loaded.items() if key in held or not isinstance(one, dict)})

    def _is_whole(self, loaded: dict[str, Any], held: Sequence[str], chosen: dict[str, Any]) -> bool:
        """Whether the adapter is in one dictionary, and not in halves of which another has other factors."""
        others = {key: one for key, one in loaded.items() if key in held or (_is_tensor(one) and one.numel() > 1)}
        others = {key: one for key, one in others.items() if one is not chosen and not NOT_INSIDE.search(key)}
        copies = {key for key, one in others.items() if isinstance(one, dict) and not one.keys().isdisjoint(chosen)}
        if any(_has_factors(one) for key, one in others.items() if key not in copies):
            return False
        self.left = tuple(key for key in others if key not in copies)
        self.copies = tuple(key for key in others if key in copies)
        return True

    def _has_tensors(self, value: Any, level: int = 1) -> bool:
        """Whether there is a tensor in a dictionary, or in one in it."""
        if not isinstance(value, dict):
            return _is_tensor(value)
        self._count(value, level, MOST_PLAIN_LEVELS)
        return any(self._has_tensors(one, level + 1) for one in value.values())

    def _spread(self, loaded: dict[Any, Any], start: str = "", level: int = 1) -> dict[str, Any]:
        import torch

        self._count(loaded, level)
        found: dict[str, Any] = {}
        for key, value in loaded.items():
            name = f"{start}{key}"
            if isinstance(value, dict):
                below = self._spread(value, f"{name}.", level + 1)
            elif type(value) is float or (type(value) is int and abs(value) < LARGEST):
                below = {name: torch.tensor(value, dtype=torch.float64)}
            else:
                below = {} if _is_setting(value) else {name: value}
            if not found.keys().isdisjoint(below):
                raise AdapterError(f"{self._path}: {name}", "two tensors have one name", do=CONVERT)
            found |= below
        return found

    def _count(self, loaded: dict[Any, Any], level: int, most: int = MOST_LEVELS) -> None:
        self._entries += len(loaded)
        if level > most or self._entries > MOST_ENTRIES:
            raise AdapterError(self._path, "more dictionaries in one another than any adapter has", do=CONVERT)


def _is_setting(value: Any) -> bool:
    """Whether it is no number and no tensor, but words about them, or a list of those.

    >>> _is_setting("linear"), _is_setting(["to_q", "to_k"]), _is_setting([1.0])
    (True, True, False)
    """
    if isinstance(value, list | tuple):
        return all(isinstance(one, str) for one in value)
    return value is None or isinstance(value, str | bool)


def _is_pair_of_networks(value: Any) -> bool:
    """Whether it is two dictionaries, as the web UI keeps the networks for keys and for values under each width
    (AUTOMATIC1111/stable-diffusion-webui ``modules/hypernetworks/hypernetwork.py``)."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, dict) for one in value)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _has_factors(value: Any) -> bool:
    return isinstance(value, dict) and any("lora" in str(key) for key in value)


class _Archive(FileIO):
    """An archive of which no list of entries is read that is longer than any adapter's, and with its first letters."""

    def __init__(self, file: FileIO, path: Path) -> None:
        super().__init__(file.fileno(), closefd=False)
        self.path = path

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_DIRECTORY_BYTES:
            raise AdapterError(self.path, "its list of entries is longer than any adapter needs", do=CONVERT)
        at_start = self.tell() == 0
        content = super().read(size) or b""
        return LETTERS + content[2:] if at_start and MARKED.match(content) else content


def _restored(path: Path) -> BytesIO:
    """A file of GPT-SoVITS as torch wrote it."""
    with open_regular(path) as file:
        content = BytesIO(file.read(MOST_MARKED_BYTES))
    content.write(LETTERS)
    content.seek(0)
    return content


def _shorter(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size < size
    except OSError:  # it has gone from its folder, and what is mapped stays
        return False


def _check_archive(path: Path) -> tuple[int, bool]:
    """The size of a file that torch may load, and whether its first letters have to be put back for that."""
    import zipfile  # slow to load, and most adapters are no archives

    with open_regular(path) as file:
        size = path.stat().st_size
        if size == 0:
            raise AdapterError(path, "the file is empty", do="download it again")
        head = file.read(4)
        marked = MARKED.fullmatch(head) is not None
        if head == GGLA:
            raise AdapterError(
                path,
                "a LoRA of llama.cpp from before GGUF",
                do="convert what it was made from, with convert_lora_to_gguf.py",
            )
        if head == SQLITE:
            raise AdapterError(
                path,
                "a database, as Draw Things keeps adapters in",
                do="take the file that was imported there, or convert it to safetensors",
            )
        if marked and size > MOST_MARKED_BYTES:
            raise AdapterError(path, f"{size:,} bytes are more than a LoRA of GPT-SoVITS has", do=CONVERT)
        try:
            with zipfile.ZipFile(_Archive(file, path)) as archive:
                entries = archive.infolist()
                file.seek(archive.start_dir + AT_OFFSET)
                if entries[0].header_offset != int.from_bytes(file.read(4), "little"):
                    raise ValueError("zipfile allows for bytes before the archive; torch would read another list")
                _check_entries(path, entries, size)
                pickles = [archive.read(entry) for entry in entries if entry.filename.endswith(PICKLE)]
        except AdapterError:
            raise
        except Exception:  # zipfile raises whatever a damaged directory leads it to
            raise AdapterError(
                path,
                "no archive as torch writes since version 1.6",
                why="it is cut short, or older",
                do="download it again, or convert it to safetensors where it comes from",
            ) from None
    for called in filter(None, map(UNBOUNDED.search, pickles)):
        raise _no_tensors(path, f"it asks to call {called[1].decode()}")
    return size, marked


def _check_entries(path: Path, entries: Sequence[ZipInfo], size: int) -> None:
    if any(entry.compress_type != 0 for entry in entries):  # zipfile.ZIP_STORED
        raise AdapterError(path, "its entries are compressed, as torch never writes them", do=CONVERT)
    if sum(entry.file_size for entry in entries) > size:
        raise AdapterError(path, "its entries claim more bytes than the file has", do="download it again")
    if sum(entry.file_size for entry in entries if entry.filename.endswith(PICKLE)) > MOST_PICKLE_BYTES:
        raise AdapterError(path, "its list of tensors is longer than any adapter needs", do=CONVERT)


def _no_tensors(path: Path, what: str) -> AdapterError:
    return AdapterError(path, f"not a file of tensors: {what}", why="no code from a file is ever run", do=CONVERT)


def _stored(key: str, tensor: Any, path: Path) -> StoredTensor:
    """What a loaded value is; everything but an ordinary tensor that lies in the file as a whole is refused."""
    import torch

    where = f"{path}: {key}"
    if len(key) > LONGEST_NAME:
        raise AdapterError(where, f"a tensor's name of {len(key):,} characters")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise AdapterError(where, f"a {type(tensor).__name__} where a tensor is needed", do=CONVERT)
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise AdapterError(where, "a sparse, quantised or absent tensor", do=CONVERT)
    if tensor.dim() > MOST_DIMENSIONS or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise AdapterError(where, f"the shape {tuple(tensor.shape)} is larger than what is stored", do=CONVERT)
    return StoredTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

"""A ``.bin`` or ``.pt`` file as ``torch.save`` writes it: weights-only loading, never unpickling code (floor 1).

The archive is checked first: nothing in it may be compressed, so that it cannot unfold into more than its own size.
torch is imported here alone, and only when such a file is opened.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorarank.adapters.archive import Archive
from lorarank.adapters.peft_config import OTHER_METHOD
from lorarank.adapters.tensors import LONGEST_NAME, MOST_DIMENSIONS, NARROW, Numbers, StoredTensor, raw_dtype
from lorarank.adapters.torch_nesting import CONVERT, Spread
from lorarank.adapters.untrusted import STAND_IN_BYTES, open_regular, refuse_stand_in
from lorarank.errors import AdapterError, needing

if TYPE_CHECKING:
    from zipfile import ZipInfo

    import torch

PICKLE = ".pkl"
"""What the part of the archive that describes the tensors ends with, in letters of either case: torch's reader takes
them for the same."""

MOST_PICKLE_BYTES = 2_000_000
"""Of that part: about 170 bytes a tensor in real ones, and each byte can cost torch's unpickler a microsecond and 70
bytes of memory."""

AT_OFFSET = 42
"""Where an entry in that list says where its data begin."""

UNBOUNDED = re.compile(rb"c[\w.]+\n(bytearray|encode)\n")
"""Functions that torch's unpickler does call, and that take any memory or time by a few bytes in the file."""

CALLED = re.compile(r"GLOBAL ([\w.]+)")
"""What torch's refusal names as the function that the file asks to call."""

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


@dataclass(frozen=True)
class TorchFile:
    """A loaded ``.bin`` file, mapped into memory rather than read.

    Attributes
    ----------
    path : of the file.
    tensors : what is stored under each name; of a list, under each position, ``"0"`` first; of dictionaries in one
        another, under their names with dots between, without that of a checkpoint's only one or one of
        :data:`~lorarank.adapters.torch_nesting.INSIDE`.
    mapped : the tensors themselves; a number in a dictionary is one of no dimension.
    plain : dictionaries without tensors, by name: configurations.
    size : of the file when it was opened.
    left : under which names beside the one of ``INSIDE`` there are other tensors, which are not read.
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
        size, marked, entries = _check_archive(path)  # what is no archive is refused without waiting for torch
        with needing(str(path), "torch", extra="probe"):
            import torch
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is odd about the file is refused or does not matter
                source = _restored(path) if marked else str(path)
                loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=not marked)
        except Exception as error:  # torch raises whatever its unpickler stumbles over
            called = CALLED.search(str(error))
            what = f"it asks to call {called[1]}" if called else "it is damaged or holds other objects"
            raise _no_tensors(path, what) from None
        spread = Spread(path)
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
        _check_sizes(path, mapped.values(), entries)
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


def _is_pair_of_networks(value: Any) -> bool:
    """Whether it is two dictionaries, as the web UI keeps the networks for keys and for values under each width
    (AUTOMATIC1111/stable-diffusion-webui ``modules/hypernetworks/hypernetwork.py``)."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, dict) for one in value)


class _Lettered(Archive):
    """An archive with its first letters."""

    def read(self, size: int | None = -1, /) -> bytes:
        at_start = self.tell() == 0
        content = super().read(size)
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


def _check_archive(path: Path) -> tuple[int, bool, Counter[int]]:
    """The size of a file that torch may load, whether its first letters have to be put back for that, and how many of
    its entries have which size."""
    import zipfile  # slow to load, and most adapters are no archives

    with open_regular(path) as file:
        size = path.stat().st_size
        if size == 0:
            raise AdapterError(path, "the file is empty", do="download it again")
        start = file.read(STAND_IN_BYTES)
        refuse_stand_in(path, start, "file of torch")
        head = start[:4]
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
            with zipfile.ZipFile(_Lettered(file, path)) as archive:
                entries = archive.infolist()
                file.seek(archive.start_dir + AT_OFFSET)
                if entries[0].header_offset != int.from_bytes(file.read(4), "little"):
                    raise ValueError("zipfile allows for bytes before the archive; torch would read another list")
                _check_entries(path, entries, size)
                pickles = [archive.read(entry) for entry in entries if _is_pickle(entry)]
        except AdapterError:
            raise
        except Exception:  # zipfile raises whatever a damaged directory leads it to
            raise AdapterError(
                path,
                "no archive as torch writes since version 1.6",
                why="it is cut short, or older",
                do="download it again, or convert it to safetensors where it comes from",
            ) from None
    _check_pickles(path, pickles)
    for called in filter(None, map(UNBOUNDED.search, pickles)):
        raise _no_tensors(path, f"it asks to call {called[1].decode()}")
    return size, marked, Counter(entry.file_size for entry in entries)


def _check_entries(path: Path, entries: Sequence[ZipInfo], size: int) -> None:
    if any(entry.compress_type != 0 for entry in entries):  # zipfile.ZIP_STORED
        raise AdapterError(path, "its entries are compressed, as torch never writes them", do=CONVERT)
    if sum(entry.file_size for entry in entries) > size:
        raise AdapterError(path, "its entries claim more bytes than the file has", do="download it again")
    if sum(entry.file_size for entry in entries if _is_pickle(entry)) > MOST_PICKLE_BYTES:
        raise AdapterError(path, "its list of tensors is longer than any adapter needs", do=CONVERT)
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise AdapterError(path, "one of its entries is stored twice", do=CONVERT)
    places = sorted((entry.header_offset, entry.file_size) for entry in entries)
    if any(start + length > behind for (start, length), (behind, _) in pairwise(places)):
        raise AdapterError(path, "its entries overlap", do="download it again")


def _check_pickles(path: Path, pickles: Iterable[bytes]) -> None:
    from lorarank.adapters.torch_pickle import is_bounded  # most adapters are no pickles

    try:
        bounded = all(map(is_bounded, pickles))
    except ValueError:
        raise _no_tensors(path, "it is damaged or holds other objects") from None
    if not bounded:
        raise AdapterError(path, "its list of tensors asks for more than any adapter needs", do=CONVERT)


def _is_pickle(entry: ZipInfo) -> bool:
    return entry.filename.lower().endswith(PICKLE)


def _check_sizes(path: Path, tensors: Iterable[torch.Tensor], entries: Counter[int]) -> None:
    """Refuse tensors that need another number of bytes than an entry has: torch does not look where it maps a file, and
    would go on behind the entry."""
    storages = {
        (one.data_ptr(), one.nbytes()) for one in (tensor.untyped_storage() for tensor in tensors if tensor.dim())
    }
    if Counter(size for _, size in storages if size) - entries:
        raise AdapterError(path, "its tensors are of other sizes than its entries", do="download it again")


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
    if tensor.dim() and tensor.untyped_storage().resizable():  # torch's own memory, with whatever it held before
        raise AdapterError(where, "a tensor whose numbers are not in the file", do=CONVERT)
    if tensor.dim() > MOST_DIMENSIONS or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise AdapterError(where, f"the shape {tuple(tensor.shape)} is larger than what is stored", do=CONVERT)
    return StoredTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

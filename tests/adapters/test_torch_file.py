"""``.bin`` files: tensors are read, nothing is ever executed, nothing unfolds."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorarank import adapters
from lorarank.audit.expand import expand
from lorarank.errors import AdapterError, MissingExtraError
from lorarank.resize import ConvertOptions, convert

Make = Callable[..., Path]
LITGPT = "lit_model.pth.lora"


@pytest.fixture
def bin_folder(make_folder: Make) -> Path:
    """A PEFT folder whose weights are still to be put into ``adapter_model.bin``."""
    folder = make_folder()
    (folder / "adapter_model.safetensors").unlink()
    return folder


GOOD = {"q.lora_A.weight": torch.ones(4, 6), "q.lora_B.weight": torch.ones(6, 4)}


MANY = {str(i): torch.ones(1) for i in range(300)}


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["beside", "instead", "nested"])
def test_no_pickle_is_executed(place: str, bin_folder: Path, tmp_path: Path) -> None:
    sign = tmp_path / "executed"
    bomb: Any = {"beside": GOOD | {"x": Bomb(sign)}, "instead": Bomb(sign), "nested": {"x": [{"y": (Bomb(sign),)}]}}[
        place
    ]
    torch.save(bomb, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"it asks to call \w+\.mkdir; no code from a file is ever run"):
        adapters.open(bin_folder)
    assert not sign.exists()
    (bin_folder / "adapter_model.bin").write_bytes(pickle.dumps(bomb))
    with pytest.raises(AdapterError, match="no archive as torch writes"):
        adapters.open(bin_folder)
    assert not sign.exists()


BINS: dict[str, tuple[Any, str]] = {
    "a list": ([torch.ones(2)], r"holds no lora_A and lora_B among its 1 tensors \(0\)"),
    "a tensor": (torch.ones(2), "holds a Tensor, not tensors by name"),
    "numbers for names": ({1: torch.ones(2)}, "not tensors by name"),
    "a list of numbers": (GOOD | {"x": [1]}, "x: a list where a tensor is needed"),
    "a number too large": (GOOD | {"x": 10**400}, "x: a int where a tensor is needed"),
    "a list further down": ({"something": GOOD | {"y": {"x": [1]}}}, "y.x: a list where a tensor is needed"),
    "dictionaries of dictionaries": ({"a": {"b": {"c": {"d": {"e": GOOD}}}}}, "more dictionaries in one another"),
    "one dictionary in many places": ({"x": dict.fromkeys(map(str, range(400)), MANY)}, "more dictionaries in one"),
    "one name twice": ({"x": GOOD, "y": {"z.w": torch.ones(1), "z": {"w": torch.ones(1)}}}, "y.z: two tensors have"),
    "sparse": (GOOD | {"x": torch.eye(3).to_sparse()}, "x: a sparse, quantised or absent tensor"),
    "absent": (GOOD | {"x": torch.empty(3, device="meta")}, "x: a sparse, quantised or absent tensor"),
    "one number 10**12 times": (
        GOOD | {"x": torch.ones(1).expand(10**6, 10**6)},
        r"x: the shape \(1000000, 1000000\) is larger than what is stored",
    ),
    "a long name": (GOOD | {"x" * 2000: torch.ones(1)}, "a tensor's name of 2,000 characters"),
    "no factors": ({"x": torch.ones(1)}, "holds no lora_A and lora_B"),
}


@pytest.mark.parametrize("case", BINS)
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_bins_of_other_things(case: str, bin_folder: Path) -> None:
    content, message = BINS[case]
    torch.save(content, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=message):
        adapters.open(bin_folder)


def test_a_configuration_beside_the_tensors_may_be_deep(bin_folder: Path) -> None:
    deep: dict[str, Any] = {"e": 1}
    for name in "abcd":
        deep = {name: deep}
    torch.save({"state_dict": GOOD, "hyper_parameters": deep}, bin_folder / "adapter_model.bin")
    assert len(adapters.open(bin_folder).modules) == 1
    for _ in range(40):
        deep = {"x": deep}
    torch.save({"state_dict": GOOD, "hyper_parameters": deep}, bin_folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="more dictionaries in one another"):
        adapters.open(bin_folder)


def test_bins_of_parameters_and_ordered_dictionaries(bin_folder: Path) -> None:
    torch.save(
        OrderedDict((name, torch.nn.Parameter(x.double())) for name, x in GOOD.items()),
        bin_folder / "adapter_model.bin",
    )
    (module,) = adapters.open(bin_folder).modules
    module.factors()[0][:] = 7  # what is handed out is no view of the file
    np.testing.assert_array_equal(module.factors()[0], np.ones((4, 6)))


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_bins_cut_short(keep: int, bin_folder: Path) -> None:
    weights = bin_folder / "adapter_model.bin"
    torch.save(GOOD, weights)
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(AdapterError, match=r"adapter_model\.bin: (the file is empty|no archive)"):
        adapters.open(bin_folder)


def test_bins_that_unfold(bin_folder: Path) -> None:
    weights = bin_folder / "adapter_model.bin"
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(AdapterError, match="its entries are compressed"):
        adapters.open(bin_folder)


def packed(path: Path, pickled: bytes, pickle_name: str = "data.pkl", more: Mapping[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        entries = {pickle_name: pickled, "version": b"3\n", "byteorder": b"little", **(more or {})}
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x20\x85R.", "it asks to call bytearray; no code"),
        (b"\x80\x02c__builtin__\nbytearray\nJ\0\0\0\x20\x85R.", "it asks to call bytearray; no code"),
        (b"\x80\x02c_codecs\nencode\nX\1\0\0\0xX\x08\0\0\0punycode\x86R.", "it asks to call encode; no code"),
        (b"\x80\x02" + b"]" * 3_000_000 + b".", "list of tensors is longer than any adapter needs"),
    ],
)
@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL"])  # torch finds either
def test_bins_that_grow_as_they_are_unpickled(name: str, pickled: bytes, message: str, tmp_path: Path) -> None:
    packed(tmp_path / "lora.bin", pickled, name)
    with pytest.raises(AdapterError, match=message):
        adapters.open(tmp_path / "lora.bin")


def test_bins_of_a_million_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lora.bin", "w") as archive:
        for number in range(1000):
            archive.writestr(f"archive/data/{number}{'x' * 5000}", b"")
    with pytest.raises(AdapterError, match="list of entries is longer than any adapter needs"):
        adapters.open(tmp_path / "lora.bin")


@pytest.mark.parametrize(
    ("function", "item"),
    [
        (b"c__builtin__\nset\n", b"M%b"),
        (b"ctorch\nSize\n", b"M%b"),
        (b"ctorch\nTensor\n", b"M%b"),
        (b"ccollections\nOrderedDict\n", b"M%bN\x86"),
    ],
)
def test_bins_that_fetch_a_long_list_again_and_again(function: bytes, item: bytes, tmp_path: Path) -> None:
    """torch copies the list each time: 3,000 times, in 18 kB, it would be gigabytes."""
    items = b"".join(item % number.to_bytes(2, "little") for number in range(8000))
    call = b"%bq\1]q\2(%be\x85R" % (function, items)
    packed(tmp_path / "lora.bin", b"\x80\x02](%b%be." % (call, b"h\1h\2\x85R" * 9))
    assert len(torch.load(tmp_path / "lora.bin", weights_only=True)) == 10
    packed(tmp_path / "lora.bin", b"\x80\x02](%b%be." % (call, b"h\1h\2\x85R" * 3000))
    with pytest.raises(AdapterError, match="its list of tensors asks for more than any adapter needs"):
        adapters.open(tmp_path / "lora.bin")


@pytest.mark.parametrize("instruction", [b"\x8f", b"}", b"N", b"("])
def test_bins_of_a_million_instructions(instruction: bytes, tmp_path: Path) -> None:
    packed(tmp_path / "lora.bin", b"\x80\x02](%be." % (instruction * 1_000_000))
    with pytest.raises(AdapterError, match="its list of tensors asks for more than any adapter needs"):
        adapters.open(tmp_path / "lora.bin")


def test_bins_whose_list_does_not_end(tmp_path: Path) -> None:
    """torch would find that out when it has done what stands before."""
    packed(tmp_path / "lora.bin", b"\x80\x02]q\0h\0")
    with pytest.raises(AdapterError, match="it is damaged or holds other objects"):
        adapters.open(tmp_path / "lora.bin")


def repacked(path: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> None:
    """Write an adapter's archive anew, each entry as what ``change`` makes of it."""
    torch.save(GOOD, path)
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry in entries:
            for name, content in change(*entry):
                archive.writestr(name, content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["data/0", "DATA/0"])
def test_bins_of_an_entry_that_stands_twice(second: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.bin"
    repacked(
        path,
        lambda name, content: (
            [(name, content)] + [(name.replace("data/0", second), bytes(96))] * name.endswith("data/0")
        ),
    )
    with pytest.raises(AdapterError, match="one of its entries is stored twice"):
        adapters.open(path)


def test_bins_of_an_entry_that_is_shorter_than_its_tensor(tmp_path: Path) -> None:
    """torch maps what lies behind it, another entry, as numbers of the tensor."""
    path = tmp_path / "lora.bin"
    repacked(path, lambda name, content: [(name, content[:16] if name.endswith("data/0") else content)])
    assert torch.load(path, weights_only=True, mmap=True)["q.lora_A.weight"].shape == (4, 6)
    with pytest.raises(AdapterError, match="its tensors are of other sizes than its entries"):
        adapters.open(path)


def test_bins_of_two_tensors_of_different_sizes_in_one_entry(tmp_path: Path) -> None:
    """torch takes entries whose names differ in capitals for the same, and maps the longer one beyond its end."""
    path = tmp_path / "lora.bin"
    torch.save({"q.lora_B.weight": torch.ones(8, 4), "q.lora_A.weight": torch.ones(4, 6)}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("lora/data.pkl").replace(b"X\1\0\0\0" + b"0", b"X\1\0\0\0" + b"A")
    packed(path, pickled.replace(b"X\1\0\0\0" + b"1", b"X\1\0\0\0" + b"a"), more={"data/a": bytes(96), "x": bytes(99)})
    assert torch.load(path, weights_only=True, mmap=True)["q.lora_B.weight"].shape == (8, 4)
    with pytest.raises(AdapterError, match="its tensors are of other sizes than its entries"):
        adapters.open(path)


OF_UNSET_STORAGE = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\nTypedStorage\nK\x10\x85RK\0K\4K\4\x86K\4K\1\x86\x89"
    b"ccollections\nOrderedDict\n)RtR"
)


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    "made", [b"ctorch\nFloatTensor\nK\4K\4\x86R", b"ctorch\nTensor\nK\4K\4\x86R", OF_UNSET_STORAGE]
)
def test_bins_of_tensors_that_are_not_in_the_file(made: bytes, tmp_path: Path) -> None:
    """torch makes a tensor of a given size where a file asks for one, of whatever the memory held before."""
    names = (b"q.lora_A.weight", b"q.lora_B.weight")
    pickled = b"".join(b"X%b%b%b" % (len(name).to_bytes(4, "little"), name, made) for name in names)
    packed(tmp_path / "lora.bin", b"\x80\x02}(%bu." % pickled, more={"data/0": bytes(64), "data/1": bytes(64)})
    assert torch.load(tmp_path / "lora.bin", weights_only=True)["q.lora_A.weight"].shape == (4, 4)
    with pytest.raises(AdapterError, match=r"q\.lora_A\.weight: a tensor whose numbers are not in the file"):
        adapters.open(tmp_path / "lora.bin")


def test_bins_of_tensors_that_have_attributes(tmp_path: Path) -> None:
    """torch names the class of such tensors in the file, buffers among them."""
    marked = torch.ones(4, 6)
    marked.sharded = True  # type: ignore[attr-defined]
    torch.save({"q.lora_A.weight": marked, "q.lora_B.weight": torch.nn.Buffer(torch.ones(6, 4))}, tmp_path / "lora.bin")
    (module,) = adapters.open(tmp_path / "lora.bin").modules
    assert [factor.shape for factor in module.read()] == [(4, 6), (6, 4)]


def test_bins_of_entries_that_lie_on_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lora.bin"
    torch.save(GOOD, path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = (entry for entry in archive.infolist() if "/data/" in entry.filename)
        place = content.index(b"PK\x01\x02", archive.start_dir)
    while content[place + 46 : place + 46 + len(second.filename)] != second.filename.encode():
        place = content.index(b"PK\x01\x02", place + 4)
    content[place + 42 : place + 46] = first.header_offset.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(AdapterError, match="its entries overlap"):
        adapters.open(path)


def test_bins_of_two_lists_of_entries(tmp_path: Path) -> None:
    """torch goes by the offset of the list, zipfile by what is right before the end: both have to see the same."""
    packed(tmp_path / "seen.bin", b"\x80\x02}." + b"\0" * 200)
    packed(tmp_path / "loaded.bin", (b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x01\x85R.").ljust(204, b"\0"))
    parts = []
    for name in ("loaded.bin", "seen.bin"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            content, start = (tmp_path / name).read_bytes(), archive.start_dir
        parts.append((content[:start], content[start:-22], content[-22:]))
    (data, entries, _), (seen, seen_entries, end) = parts
    assert (len(data), len(entries)) == (len(seen), len(seen_entries))
    (tmp_path / "lora.bin").write_bytes(data + entries + seen + seen_entries + end)
    with pytest.raises(AdapterError, match="no archive as torch writes"):
        adapters.open(tmp_path / "lora.bin")


def test_bins_in_another_protocol_are_refused_in_one_line(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    packed(tmp_path / "lora.bin", pickle.dumps(Bomb(tmp_path / "executed"), protocol=4))
    with pytest.raises(AdapterError, match="not a file of tensors"):
        adapters.open(tmp_path / "lora.bin")
    assert not recwarn.list


def test_bins_cut_short_while_they_are_open(bin_folder: Path) -> None:
    weights = bin_folder / "adapter_model.bin"
    torch.save(GOOD | {"x": torch.ones(100_000)}, weights)
    (module,) = adapters.open(bin_folder).modules
    os.truncate(weights, 1000)
    with pytest.raises(AdapterError, match="cut short while it was open"):
        module.factors()


def test_bins_without_torch(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(GOOD, bin_folder / "adapter_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"adapter_model\.bin: needs the package torch.*'lorarank\[probe\]'"):
        adapters.open(bin_folder)


@pytest.mark.parametrize("inside", ["state_dict", "model", "model_state_dict", "weight", "net"])
def test_a_checkpoint_that_keeps_its_tensors_one_level_down(inside: str, tmp_path: Path) -> None:
    tensors = {"q.lora_A.weight": torch.ones(2, 6), "q.lora_B.weight": torch.ones(8, 2)}
    torch.save({inside: tensors, "epoch": 3, "optimizer_states": [{"lr": 0.1}]}, tmp_path / "lora.ckpt")
    (module,) = adapters.open(tmp_path / "lora.ckpt").modules
    assert (module.name, module.r) == ("q", 2)


def test_the_file_of_litgpt_has_a_name_of_its_own(tmp_path: Path) -> None:
    stem = "transformer.h.0.mlp.proj"
    torch.save({"model": {f"{stem}.lora_A": torch.ones(2, 6), f"{stem}.lora_B": torch.ones(8, 2)}}, tmp_path / LITGPT)
    for source in (tmp_path, tmp_path / LITGPT):
        (module,) = adapters.open(source).modules
        assert (module.name, module.r) == (stem, 2)
    assert expand([str(tmp_path)]) == [str(tmp_path / LITGPT)]


def test_the_lora_in_an_ip_adapter_for_faces(tmp_path: Path) -> None:
    """IP-Adapter-FaceID keeps it among the projections that it trains beside it."""
    inside = {"0.to_q_lora.down.weight": torch.ones(2, 6), "0.to_q_lora.up.weight": torch.ones(8, 2)}
    others = {"1.to_k_ip.weight": torch.ones(8, 6)}
    torch.save({"image_proj": {"proj.0.weight": torch.ones(4, 4)}, "ip_adapter": inside | others}, tmp_path / "ip.bin")
    adapter = adapters.open(tmp_path / "ip.bin")
    assert [(module.name, module.r, module.scaling) for module in adapter.modules] == [("0.to_q", 2, 1.0)]
    assert adapter.carried == ("1.to_k_ip.weight",)
    assert "other tensors beside these, under image_proj: they are not read" in adapter.notes[-1]
    with pytest.raises(
        AdapterError, match=r"other tensors beside the adapter, under image_proj; .*all of it is written"
    ):
        convert(tmp_path / "ip.bin", tmp_path / "out", ConvertOptions(to="peft"))


@pytest.mark.parametrize(("first", "second"), [("model", "text_encoder"), ("lora", "text_encoder_lora")])
def test_the_halves_of_an_adapter_in_a_checkpoint(first: str, second: str, tmp_path: Path) -> None:
    unet, text = ({f"{name}.lora_A": torch.ones(2, 6), f"{name}.lora_B": torch.ones(8, 2)} for name in ("q", "fc1"))
    rest = {"optimizer": {"q": torch.ones(8)}, "mean": torch.ones(3), "step": torch.tensor(5)}
    torch.save({first: unet, second: text} | rest, tmp_path / "lora.pt")
    adapter = adapters.open(tmp_path / "lora.pt")
    assert [module.name for module in adapter.modules] == [f"{first}.q", f"{second}.fc1"]
    torch.save({first: unet, "average": dict(unet)} | rest, tmp_path / "averaged.pt")
    adapter = adapters.open(tmp_path / "averaged.pt")
    assert [module.name for module in adapter.modules] == ["q"]
    assert "under mean:" in adapter.notes[-2]
    assert "tensors of the same names beside these, under average:" in adapter.notes[-1]


def test_two_models_in_a_checkpoint_are_not_chosen_among(tmp_path: Path) -> None:
    tensors = {"q.lora_A.weight": torch.ones(2, 6), "q.lora_B.weight": torch.ones(8, 2)}
    torch.save({"model": tensors, "state_dict": tensors}, tmp_path / "lora.ckpt")
    with pytest.raises(AdapterError, match="state_dict: a dict where a tensor is needed, beside model"):
        adapters.open(tmp_path / "lora.ckpt")


def test_dictionaries_in_one_another_are_names_with_dots(tmp_path: Path) -> None:
    factors = {"lora_down.weight": torch.ones(2, 6), "lora_up.weight": torch.ones(8, 2)}
    unet = {f"mid.attn.to_q.{key}": value for key, value in factors.items()}
    token = {"<cat>": torch.ones(1, 8)}
    torch.save({"params": {"new_concept_embedding": token, "unet": unet, "note": "x", "epoch": 3}}, tmp_path / "x.pth")
    adapter = adapters.open(tmp_path / "x.pth")
    assert [(module.name, module.r) for module in adapter.modules] == [("unet.mid.attn.to_q", 2)]
    assert adapter.carried == ("epoch", "new_concept_embedding.<cat>")


def test_the_lora_beside_the_encoder_of_photomaker(tmp_path: Path) -> None:
    inside = {"unet.q.lora.down.weight": torch.ones(2, 6), "unet.q.lora.up.weight": torch.ones(8, 2)}
    torch.save({"id_encoder": {"proj.weight": torch.ones(4, 4)}, "lora_weights": inside}, tmp_path / "photomaker.bin")
    adapter = adapters.open(tmp_path / "photomaker.bin")
    assert [(module.name, module.r, module.scaling) for module in adapter.modules] == [("unet.q", 2, 1.0)]
    assert adapter.carried == ()
    assert "under id_encoder:" in adapter.notes[-1]


def test_words_and_lists_of_words_beside_tensors_are_settings(tmp_path: Path) -> None:
    """img2img-turbo and OSEDiff keep the names of the modules that they train beside these."""
    unet = {"q.lora_A.weight": torch.ones(2, 6), "q.lora_B.weight": torch.ones(8, 2)}
    tensors = {"unet_lora_target_modules": ["to_q"], "state_dict_unet": unet, "state_dict_vae": unet, "rank_unet": 2}
    torch.save(tensors, tmp_path / "model.pt")
    modules = adapters.open(tmp_path / "model.pt").modules
    assert [module.name for module in modules] == ["state_dict_unet.q", "state_dict_vae.q"]
    torch.save(tensors, tmp_path / "model.pkl")
    with pytest.raises(AdapterError, match=r"a file of torch by another name.* Name it \.pt\."):
        adapters.open(tmp_path / "model.pkl")
    torch.save(tensors | {"rows": [torch.ones(2)]}, tmp_path / "model.pt")
    with pytest.raises(AdapterError, match="rows: a list where a tensor is needed"):
        adapters.open(tmp_path / "model.pt")


def test_hypernetworks_and_databases_are_called_so(tmp_path: Path) -> None:
    torch.save({"step": 1, 320: [{"linear.0.weight": torch.ones(2, 6)}] * 2}, tmp_path / "style.pt")
    with pytest.raises(AdapterError, match="a hypernetwork of the web UI"):
        adapters.open(tmp_path / "style.pt")
    (tmp_path / "x_lora_f16.ckpt").write_bytes(b"SQLite format 3\0" + bytes(84))
    with pytest.raises(AdapterError, match="a database, as Draw Things keeps adapters in"):
        adapters.open(tmp_path / "x_lora_f16.ckpt")


def test_files_of_gpt_sovits_have_their_version_for_first_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lora.pth"
    torch.save({"weight": GOOD, "config": {"r": 4}, "info": "1epoch", "lora_rank": 4}, path)
    path.write_bytes(b"03" + path.read_bytes()[2:])
    (module,) = adapters.open(path).modules
    np.testing.assert_array_equal(module.factors()[0], np.ones((4, 6)))
    assert path.read_bytes().startswith(b"03\x03\x04")
    path.with_name("bomb.pth").write_bytes(marked(Bomb(tmp_path / "sign"), path))
    with pytest.raises(AdapterError, match="no code from a file is ever run"):
        adapters.open(path.with_name("bomb.pth"))
    assert not (tmp_path / "sign").exists()
    monkeypatch.setattr("lorarank.adapters.torch_file.MOST_MARKED_BYTES", 100)
    with pytest.raises(AdapterError, match="bytes are more than a LoRA of GPT-SoVITS has"):
        adapters.open(path)


def marked(content: Any, beside: Path) -> bytes:
    torch.save(content, beside.with_name("plain.pth"))
    return b"04" + beside.with_name("plain.pth").read_bytes()[2:]


def test_files_of_llama_cpp_from_before_gguf_are_known(tmp_path: Path) -> None:
    (tmp_path / "ggml-adapter-model.bin").write_bytes(b"algg" + bytes(100))
    with pytest.raises(AdapterError, match="before GGUF"):
        adapters.open(tmp_path / "ggml-adapter-model.bin")

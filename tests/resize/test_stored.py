"""Formats that are written back as they were: the same keys, and the update that their own tools compute."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from lorarank import adapters
from lorarank.errors import AdapterError, OptionError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Tensors = dict[str, np.ndarray]
Config = dict[str, object]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A file of a tool's, and ΔW of its modules as the tool's own formula has it, from tensors and configuration."""

    tensors: Tensors
    formula: Callable[[Tensors, Config], Mapping[str, np.ndarray]]
    config: Config | None = None
    metadata: dict[str, str] | None = None
    file: str = "lora.safetensors"


def mlx(tensors: Tensors, config: Config) -> Mapping[str, np.ndarray]:
    """``y + scale * (x @ lora_a) @ lora_b``; experts ``scale * lora_b[e] @ lora_a[e]``."""
    scale = config["lora_parameters"]["scale"]  # type: ignore[index]
    found = {}
    for key, a in tensors.items():
        if key.endswith("lora_a"):
            b = tensors[key.replace("lora_a", "lora_b")]
            found[key] = scale * (a @ b).T if a.ndim == 2 else scale * b @ a
    return found


def torchtune(tensors: Tensors, config: Config) -> Mapping[str, np.ndarray]:
    """``alpha / rank * lora_b(lora_a(x))``."""
    scale = config["lora_alpha"] / config["r"] if config else 1.0  # type: ignore[operator]
    return {key: scale * tensors[key.replace("lora_a", "lora_b")] @ a for key, a in tensors.items() if "lora_a" in key}


def pairs(down: str, up: str, alpha: str = "") -> Callable[[Tensors, Config], Mapping[str, np.ndarray]]:
    """``up @ down``, times alpha/r where one is stored."""

    def formula(tensors: Tensors, _: Config) -> Mapping[str, np.ndarray]:
        found = {}
        for key, A in tensors.items():
            if down in key:
                stored = tensors.get(key.replace(down, alpha)) if alpha else None
                scale = 1.0 if stored is None else float(stored) / len(A)
                B = tensors[key.replace(down, up)]
                found[key] = scale * (B.reshape(len(B), -1) @ A.reshape(len(A), -1))
        return found

    return formula


FLUX = "double_blocks.{}.processor.qkv_lora1.{}.weight"
COMFY = "diffusion_model.blocks.0.self_attn.{}.{}"
TO_Q = "mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.{}.weight"
CASES = {
    "mlx": Case(
        {
            "model.layers.0.self_attn.q_proj.lora_a": normal(10, 4),
            "model.layers.0.self_attn.q_proj.lora_b": normal(4, 12),
            "model.layers.0.mlp.switch_mlp.up_proj.lora_a": normal(3, 4, 10),
            "model.layers.0.mlp.switch_mlp.up_proj.lora_b": normal(3, 8, 4),
        },
        mlx,
        {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0}, "num_layers": 1},
        file="adapters.safetensors",
    ),
    "torchtune": Case(
        {
            "layers.0.attn.q_proj.lora_a.weight": normal(4, 10),
            "layers.0.attn.q_proj.lora_b.weight": normal(12, 4),
            "layers.0.mlp.w1.lora_a.weight": normal(4, 10, seed=1),
            "layers.0.mlp.w1.lora_b.weight": normal(16, 4),
        },
        torchtune,
        {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "w1"], "peft_type": "LORA"},
        file="adapter_model.safetensors",
    ),
    "xlabs": Case(
        {
            FLUX.format(0, "down"): normal(4, 10),
            FLUX.format(0, "up"): normal(30, 4),
            FLUX.format(1, "down"): normal(4, 10, seed=1),
            FLUX.format(1, "up"): normal(30, 4, seed=1),
        },
        pairs(".down.", ".up."),
    ),
    "ai-toolkit": Case(
        {
            COMFY.format("q", "lora_A.weight"): normal(4, 10),
            COMFY.format("q", "lora_B.weight"): normal(10, 4),
            COMFY.format("q", "alpha"): np.array(3, np.float32),
            COMFY.format("k", "lora_A.weight"): normal(4, 10, seed=1),
            COMFY.format("k", "lora_B.weight"): normal(10, 4, seed=1),
        },
        pairs("lora_A.weight", "lora_B.weight", "alpha"),
        metadata={"software": '{"name": "ai-toolkit"}', "sshs_model_hash": "of other numbers", "name": "a"},
    ),
    "attention-processors": Case(
        {TO_Q.format("down"): normal(4, 10), TO_Q.format("up"): normal(12, 4)}, pairs(".down.", ".up.")
    ),
    "cloneofsimo": Case(
        {
            "unet:0:down": normal(4, 10),
            "unet:0:up": normal(12, 4),
            "unet:1:down": normal(4, 10, seed=1),
            "unet:1:up": normal(8, 4),
            "<s1>": normal(7),
        },
        pairs(":down", ":up"),
        metadata={"unet": '["GEGLU"]', "unet:0:rank": "4", "unet:1:rank": "4", "<s1>": "<embed>"},
    ),
    "pairs": Case({"w_a_000": normal(4, 10), "w_b_000": normal(12, 4), "other": normal(3)}, pairs("w_a", "w_b")),
}


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[str], Path]:
    """The file of a case, in a folder with its configuration."""

    def save(form: str) -> Path:
        case = CASES[form]
        folder = tmp_path / "in"
        folder.mkdir()
        save_file(case.tensors, folder / case.file, metadata=case.metadata)
        if case.config is not None:
            (folder / "adapter_config.json").write_text(json.dumps(case.config))
        return folder

    return save


def written(form: str, folder: Path) -> tuple[Tensors, Config]:
    config = folder / "adapter_config.json"
    assert config.exists() is (CASES[form].config is not None)
    return load_file(folder / CASES[form].file), json.loads(config.read_text()) if config.exists() else {}


def dense(delta: np.ndarray, k: int) -> np.ndarray:
    U, s, Vt = np.linalg.svd(delta.astype(np.float64), full_matrices=False)
    return (U[..., :k] * s[..., None, :k]) @ Vt[..., :k, :]


@pytest.mark.parametrize("bake", [False, True])
@pytest.mark.parametrize("form", CASES)
def test_the_tool_reads_the_best_cut(form: str, bake: bool, stored: Callable[[str], Path], tmp_path: Path) -> None:
    case = CASES[form]
    source = stored(form)
    done = resize(source, tmp_path / "out", ResizeOptions(rank=2, bake_alpha=bake))
    assert (done.format_before, done.format, done.r) == (form, form, (2,))
    tensors, config = written(form, tmp_path / "out")
    assert tensors.keys() == case.tensors.keys()
    found, before = case.formula(tensors, config), case.formula(case.tensors, case.config or {})
    for name, delta in before.items():
        np.testing.assert_allclose(found[name], dense(delta, 2), rtol=0, atol=1e-5 * np.abs(delta).max(), err_msg=name)
    again = adapters.open(tmp_path / "out")
    assert (again.format, {module.r for module in again.modules}) == (form, {2})
    assert bake is False or {module.scaling for module in again.modules} == {1.0}
    for key in adapters.open(source).carried:
        assert tensors[key].tobytes() == case.tensors[key].tobytes()


@pytest.mark.parametrize("form", CASES)
def test_without_a_cut_nothing_changes(form: str, stored: Callable[[str], Path], tmp_path: Path) -> None:
    convert(stored(form), tmp_path / "out", ConvertOptions())
    tensors, config = written(form, tmp_path / "out")
    assert config == (CASES[form].config or {})
    for key, tensor in CASES[form].tensors.items():
        assert tensors[key].shape == tensor.shape
        assert tensors[key].tobytes() == tensor.tobytes(), key


def test_metadata_stay_but_for_ranks_and_hashes(stored: Callable[[str], Path], tmp_path: Path) -> None:
    resize(stored("cloneofsimo"), tmp_path / "out", ResizeOptions(energy=0.7, per_module=True))
    ranks = {module.name: str(module.r) for module in adapters.open(tmp_path / "out").modules}
    with safe_open(tmp_path / "out" / "lora.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata["unet"] == '["GEGLU"]'
    assert ranks == {f"unet.{i}": metadata[f"unet:{i}:rank"] for i in (0, 1)}


def test_a_hash_of_other_numbers_is_left_out(stored: Callable[[str], Path], tmp_path: Path) -> None:
    resize(stored("ai-toolkit"), tmp_path / "lora.safetensors", ResizeOptions(rank=1))
    with safe_open(tmp_path / "lora.safetensors", "np") as file:
        assert "sshs_model_hash" not in file.metadata()
        assert file.metadata()["name"] == "a"


@pytest.mark.parametrize("form", ["torchtune", "xlabs"])
def test_tools_with_one_rank_get_one(form: str, stored: Callable[[str], Path], tmp_path: Path) -> None:
    source = stored(form)
    with pytest.raises(AdapterError, match=r"takes one r for all modules\. Leave --per-module out"):
        resize(source, tmp_path / "out", ResizeOptions(params=130 if form == "torchtune" else 200, per_module=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["pairs", "xlabs"])
def test_an_alpha_that_is_not_stored_has_to_follow(form: str, stored: Callable[[str], Path], tmp_path: Path) -> None:
    source = stored(form)
    done = resize(source, tmp_path / "out", ResizeOptions(rank=2))
    assert any("times new r over old r" in note for note in done.notes)
    assert not any("times new r" in note for note in convert(source, tmp_path / "same", ConvertOptions()).notes)


def test_an_alpha_keeps_its_dtype_where_that_holds_it(tmp_path: Path) -> None:
    stem = COMFY.format("q", "")
    for name, alpha in (("whole", 8.0), ("third", 1.0)):
        tensors = {
            f"{stem}lora_A.weight": normal(3 if name == "third" else 4, 10).astype(np.float16),
            f"{stem}lora_B.weight": normal(10, 3 if name == "third" else 4).astype(np.float16),
            f"{stem}alpha": np.array(alpha, np.float16),
        }
        save_file(tensors, tmp_path / f"{name}.safetensors")
        resize(tmp_path / f"{name}.safetensors", tmp_path / f"{name}-cut.safetensors", ResizeOptions(rank=1))
    assert load_file(tmp_path / "whole-cut.safetensors")[f"{stem}alpha"].dtype == np.float16
    assert load_file(tmp_path / "third-cut.safetensors")[f"{stem}alpha"] == np.float32(1 / 3)


@pytest.mark.parametrize(
    ("name", "part", "shape", "classes"),
    [
        ("lora.pt", "unet", (), ["Attention", "CrossAttention", "GEGLU"]),
        ("lora.pt", "unet", (3, 3), ["Attention", "CrossAttention", "GEGLU", "ResnetBlock2D"]),
        ("lora.text_encoder.pt", "text_encoder", (), ["CLIPAttention"]),
    ],
)
def test_a_bare_list_gets_the_names_lora_diffusion_would_give(
    name: str, part: str, shape: tuple[int, ...], classes: list[str], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    one = (1,) * len(shape)
    ups, downs = [normal(8, 4, *one, seed=i) for i in range(3)], [normal(4, 6, *shape, seed=i + 9) for i in range(3)]
    torch.save([torch.from_numpy(x) for two in zip(ups, downs, strict=True) for x in two], tmp_path / name)
    resize(tmp_path / name, tmp_path / "cut.safetensors", ResizeOptions(rank=2))
    tensors = load_file(tmp_path / "cut.safetensors")
    with safe_open(tmp_path / "cut.safetensors", "np") as file:
        metadata = file.metadata()
    assert sorted(tensors) == sorted(f"{part}:{i}:{side}" for i in range(3) for side in ("up", "down"))
    assert json.loads(metadata[part]) == classes
    for i, (up, down) in enumerate(zip(ups, downs, strict=True)):
        assert metadata[f"{part}:{i}:rank"] == "2"
        U, values, Vt = np.linalg.svd(up.reshape(8, 4).astype(np.float64) @ down.reshape(4, -1))
        cut = tensors[f"{part}:{i}:up"].reshape(8, 2) @ tensors[f"{part}:{i}:down"].reshape(2, -1)
        assert tensors[f"{part}:{i}:down"].shape == (2, 6, *shape)
        np.testing.assert_allclose(cut, (U[:, :2] * values[:2]) @ Vt[:2], atol=1e-5)


def test_gguf_is_not_written(tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> None:
    stem = "blk.0.ffn_up.weight"
    (tmp_path / "lora.gguf").write_bytes(gguf_bytes({f"{stem}.lora_a": normal(4, 6), f"{stem}.lora_b": normal(8, 4)}))
    with pytest.raises(OptionError, match=r"not written\. Give --to peft, from which llama.cpp's convert_lora_to_gguf"):
        resize(tmp_path / "lora.gguf", tmp_path / "out", ResizeOptions(rank=1))


def test_eight_bits_are_written_as_sixteen(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    stem = "lora_unet_mid_block_attentions_0_proj_in"
    stored = {"lora_down": normal(4, 16), "lora_up": normal(24, 4)}
    small = {f"{stem}.{name}.weight": torch.from_numpy(x).to(torch.float8_e4m3fn) for name, x in stored.items()}
    save_torch(small, tmp_path / "lora.safetensors")
    convert(tmp_path / "lora.safetensors", tmp_path / "same.safetensors", ConvertOptions())
    result = resize(tmp_path / "lora.safetensors", tmp_path / "cut.safetensors", ResizeOptions(rank=2))
    assert (result.dtypes_before, result.dtypes) == (("float8_e4m3fn",), ("bfloat16",))
    same, cut = load_torch(tmp_path / "same.safetensors"), load_torch(tmp_path / "cut.safetensors")
    for key, tensor in small.items():
        assert same[key].dtype == torch.bfloat16
        assert torch.equal(same[key].double(), tensor.double())
    down, up = (small[f"{stem}.{name}.weight"].double().numpy() for name in stored)
    U, values, Vt = np.linalg.svd(up @ down)
    found = (cut[f"{stem}.lora_up.weight"].double() @ cut[f"{stem}.lora_down.weight"].double()).numpy()
    np.testing.assert_allclose(found, (U[:, :2] * values[:2]) @ Vt[:2], atol=0.02 * values[0])


def test_experts_of_tinker_stay_in_three_dimensions(tmp_path: Path) -> None:
    stem = "base_model.model.model.layers.0.mlp.experts.w1"
    A, B = normal(1, 4, 6), normal(3, 8, 4)
    (tmp_path / "in").mkdir()
    save_file({f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}, tmp_path / "in" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    (tmp_path / "in" / "adapter_config.json").write_text(json.dumps(config))
    resize(tmp_path / "in", tmp_path / "out", ResizeOptions(rank=2))
    cut = load_file(tmp_path / "out" / "adapter_model.safetensors")
    written_A, written_B = cut[f"{stem}.lora_A.weight"], cut[f"{stem}.lora_B.weight"]
    assert (written_A.shape, written_B.shape) == ((3, 2, 6), (3, 8, 2))
    for i in range(3):
        U, values, Vt = np.linalg.svd(2.0 * B[i].astype(np.float64) @ A[0])
        expected = (U[:, :2] * values[:2]) @ Vt[:2]
        np.testing.assert_allclose(2.0 * written_B[i] @ written_A[i], expected, atol=1e-5)


def test_rank_and_alpha_of_mlx_vlm_are_brought_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    A, B = normal(6, 4), normal(4, 8)
    save_file({"q.A": A, "q.B": B}, tmp_path / "in" / "adapters.safetensors")
    (tmp_path / "in" / "adapter_config.json").write_text(json.dumps({"rank": 4, "alpha": 2.0, "dropout": 0.0}))
    resize(tmp_path / "in", tmp_path / "out", ResizeOptions(rank=2, bake_alpha=True))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config == {"rank": 2, "alpha": 2, "dropout": 0.0}
    cut = load_file(tmp_path / "out" / "adapters.safetensors")
    U, values, Vt = np.linalg.svd(0.5 * A.astype(np.float64) @ B)
    np.testing.assert_allclose(cut["q.A"] @ cut["q.B"], (U[:, :2] * values[:2]) @ Vt[:2], atol=1e-5)


def test_the_configuration_of_a_trainer_is_said_to_be_needed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    A, B = normal(4, 6), normal(8, 4)
    save_file({"wq.lora_A.weight": A, "wq.lora_B.weight": B}, tmp_path / "in" / "lora.safetensors")
    (tmp_path / "in" / "params.json").write_text(json.dumps({"lora": {"rank": 4, "scaling": 2.0}}))
    done = resize(tmp_path / "in", tmp_path / "out", ResizeOptions(rank=2))
    assert any("r = 2 and a scaling of 2." in note for note in done.notes)
    (tmp_path / "out" / "params.json").write_text(json.dumps({"lora": {"rank": 2, "scaling": 2.0}}))
    (module,) = adapters.open(tmp_path / "out").modules
    lora_A, lora_B = module.factors()
    U, values, Vt = np.linalg.svd(2.0 * B.astype(np.float64) @ A)
    np.testing.assert_allclose(module.scaling * lora_B @ lora_A, (U[:, :2] * values[:2]) @ Vt[:2], atol=1e-5)


def stable_audio(tensors: Tensors, metadata: dict[str, str]) -> float:
    told = json.loads(metadata["lora_config"])
    assert told["adapter_type"] == "lora"
    return float(told["alpha"] / told["rank"])


def mochi(tensors: Tensors, metadata: dict[str, str]) -> float:
    told = json.loads(metadata["kwargs"])
    return float(told["qkv_proj_lora_alpha"] / told["qkv_proj_lora_rank"])


def hqq(tensors: Tensors, metadata: dict[str, str]) -> float:
    return float(tensors["b.qkv_x.scaling"])


IN_THE_FILE = {
    stable_audio: ({}, {"lora_config": json.dumps({"rank": 4, "alpha": 8, "adapter_type": "lora"})}),
    mochi: (
        {},
        {
            "kwargs": json.dumps(
                {f"{kind}_proj_lora_{key}": x for kind in ("qkv", "out") for key, x in (("rank", 4), ("alpha", 8))}
            )
        },
    ),
    hqq: ({"b.qkv_x.scaling": np.array(2.0, np.float32)}, {}),
}


@pytest.mark.parametrize("bake", [False, True])
@pytest.mark.parametrize("scaling", IN_THE_FILE)
def test_a_scaling_told_in_the_file_is_told_anew(
    scaling: Callable[[Tensors, dict[str, str]], float], bake: bool, tmp_path: Path
) -> None:
    more, metadata = IN_THE_FILE[scaling]
    A, B = normal(4, 20), normal(24, 4)
    save_file({"b.qkv_x.lora_A": A, "b.qkv_x.lora_B": B, **more}, tmp_path / "lora.safetensors", metadata)
    options = ResizeOptions(rank=2, bake_alpha=bake)
    if bake and scaling is hqq:
        with pytest.raises(AdapterError, match=r"a scaling beside the factors of each module\. Leave --bake-alpha out"):
            resize(tmp_path / "lora.safetensors", tmp_path / "out", options)
        return
    done = resize(tmp_path / "lora.safetensors", tmp_path / "out", options)
    assert not any("configuration beside it" in note or "times new r" in note for note in done.notes)
    tensors = load_file(tmp_path / "out" / "lora.safetensors")
    with safe_open(tmp_path / "out" / "lora.safetensors", framework="numpy") as file:
        told = scaling(tensors, file.metadata())
    assert told == (1.0 if bake else 2.0)
    U, s, Vt = np.linalg.svd(2.0 * B.astype(np.float64) @ A)
    found = told * tensors["b.qkv_x.lora_B"].astype(np.float64) @ tensors["b.qkv_x.lora_A"]
    np.testing.assert_allclose(found, U[:, :2] * s[:2] @ Vt[:2], atol=1e-5)
    assert adapters.open(tmp_path / "out").modules[0].scaling == told


def test_a_scaling_told_for_one_r_is_for_one(tmp_path: Path) -> None:
    tensors = {f"{name}.lora_{side}": x for name in "qk" for side, x in (("A", normal(4, 20)), ("B", normal(24, 4)))}
    tensors["k.lora_B"] = tensors["k.lora_B"] * np.float32(10)
    metadata = {"lora_config": json.dumps({"rank": 4, "alpha": 8})}
    save_file(tensors, tmp_path / "lora.safetensors", metadata)
    with pytest.raises(AdapterError, match=r"for one r\. Leave --per-module out"):
        resize(tmp_path / "lora.safetensors", tmp_path / "out", ResizeOptions(params=220, per_module=True))


@pytest.mark.parametrize("kernel", [(3,), (1, 2, 2)])
def test_convolutions_that_sd_scripts_does_not_have_stay_in_a_file_that_stays(
    kernel: tuple[int, ...], tmp_path: Path
) -> None:
    """LyCORIS has them in kohya's layout too: the cut one is still alpha / r · up · down."""
    down, up = normal(4, 5, *kernel), normal(7, 4, *(1,) * len(kernel))
    stem, path = "lycoris_patch_embedding", tmp_path / "in.safetensors"
    factors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
    save_file({**factors, f"{stem}.alpha": np.array(2, np.float32)}, path)
    resize(path, tmp_path / "out.safetensors", ResizeOptions(rank=2))
    tensors = load_file(tmp_path / "out.safetensors")
    assert tensors[f"{stem}.lora_down.weight"].shape == (2, 5, *kernel)
    assert tensors[f"{stem}.lora_up.weight"].shape == (7, 2, *(1,) * len(kernel))
    U, s, Vt = np.linalg.svd(0.5 * up.reshape(7, 4).astype(np.float64) @ down.reshape(4, -1), full_matrices=False)
    found = tensors[f"{stem}.alpha"] / 2 * tensors[f"{stem}.lora_up.weight"].reshape(7, 2)
    found = found @ tensors[f"{stem}.lora_down.weight"].reshape(2, -1)
    np.testing.assert_allclose(found, U[:, :2] * s[:2] @ Vt[:2], atol=1e-5)
    with pytest.raises(AdapterError, match=r"no place for this kind .*\. Leave --to out, or write --to peft"):
        convert(of_unet(path, tmp_path), tmp_path / "other.safetensors", ConvertOptions(to="kohya"))


def of_unet(path: Path, folder: Path) -> Path:
    """The same under a name of sd-scripts'."""
    tensors = {key.replace("lycoris_", "lora_unet_"): tensor for key, tensor in load_file(path).items()}
    save_file(tensors, folder / "unet.safetensors")
    return folder / "unet.safetensors"


def test_what_diffusers_passes_over_stays_in_a_file_of_its_own(tmp_path: Path) -> None:
    """OneTrainer's magnitudes of columns: it reads them there again, and diffusers the factors alone."""
    name = "transformer.transformer_blocks.0.attn.to_k"
    tensors = {f"{name}.lora_A.weight": normal(4, 8), f"{name}.lora_B.weight": normal(8, 4)}
    magnitudes = {f"{name}.dora_scale": normal(1, 8)}
    save_file(tensors | magnitudes, tmp_path / "in.safetensors")
    resize(tmp_path / "in.safetensors", tmp_path / "out.safetensors", ResizeOptions(rank=2))
    written = load_file(tmp_path / "out.safetensors")
    np.testing.assert_array_equal(written[f"{name}.dora_scale"], magnitudes[f"{name}.dora_scale"])
    with pytest.raises(AdapterError, match=r"for each column.*\. Leave --to out"):
        convert(tmp_path / "in.safetensors", tmp_path / "peft", ConvertOptions(to="peft"))


def test_no_format_is_to_be_left_out_where_none_was_given(tmp_path: Path) -> None:
    name = "transformer.single_blocks.0.linear2"  # which diffusers calls otherwise
    tensors = {f"{name}.lora_A.weight": normal(4, 40), f"{name}.lora_B.weight": normal(8, 4)}
    save_file({**tensors, f"{name}.dora_scale": normal(1, 40)}, tmp_path / "in.safetensors")
    with pytest.raises(AdapterError, match=r"diffusers has no place for it\. Load it with diffusers, which knows"):
        resize(tmp_path / "in.safetensors", tmp_path / "out", ResizeOptions(rank=2))
    with pytest.raises(AdapterError, match=r"diffusers has no place for it\. Leave --to out"):
        resize(tmp_path / "in.safetensors", tmp_path / "out", ResizeOptions(rank=2, to="diffusers"))

"""kohya's layout: ΔW against a dense reference, alphas in every form, Tucker cores, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorarank import adapters
from lorarank.adapters import LoraModule
from lorarank.errors import AdapterError, NumericsError
from lorarank.resize import ResizeOptions, resize

Make = Callable[..., Path]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def delta(module: LoraModule) -> np.ndarray:
    lora_A, lora_B = module.factors()
    assert lora_A.shape == (module.r, module.in_features)
    assert lora_B.shape == (module.out_features, module.r)
    assert lora_A.dtype == lora_B.dtype == np.float64
    return module.scaling * (lora_B @ lora_A)


Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


def pair(stem: str = Q, r: int = 4, into: int = 6, out: int = 8) -> dict[str, np.ndarray]:
    return {f"{stem}.lora_down.weight": normal(r, into), f"{stem}.lora_up.weight": normal(out, r, seed=1)}


@pytest.mark.parametrize(
    ("alpha", "scaling"),
    [
        (np.array(2.0, np.float16), 0.5),
        (np.array([6.0], np.float32), 1.5),
        (np.array([[8.0]]), 2.0),
        (np.array(4, np.int64), 1.0),
        (np.array(1, np.uint8), 0.25),
        (None, 1.0),
    ],
)
def test_a_linear_layer(alpha: np.ndarray | None, scaling: float, make_file: Make) -> None:
    tensors = pair() | ({} if alpha is None else {f"{Q}.alpha": alpha})
    adapter = adapters.open(make_file(tensors, {"ss_sd_model_name": "base.safetensors"}))
    (module,) = adapter.modules
    assert (adapter.format, adapter.base_model, adapter.carried) == ("kohya", "base.safetensors", ())
    assert (module.kind, module.r, module.scaling, module.parameters) == ("linear", 4, scaling, 56)
    assert module.keys == (f"{Q}.lora_down.weight", f"{Q}.lora_up.weight")
    dense = scaling * tensors[f"{Q}.lora_up.weight"].astype(np.float64) @ tensors[f"{Q}.lora_down.weight"]
    np.testing.assert_allclose(delta(module), dense, rtol=1e-14)
    assert [note for note in adapter.notes if "No alpha is stored for 1 of 1" in note] == list(adapter.notes)
    assert bool(adapter.notes) == (alpha is None)


def test_convolutions(make_file: Make) -> None:
    down, up = normal(4, 5, 3, 3), normal(7, 4, 1, 1, seed=1)
    tensors = {"lora_unet_conv_in.lora_down.weight": down, "lora_unet_conv_in.lora_up.weight": up}
    (module,) = adapters.open(make_file(tensors)).modules
    assert (module.kind, module.in_features, module.out_features) == ("conv2d", 45, 7)
    dense = np.einsum("orxy,rikl->oikl", up.astype(np.float64), down)
    np.testing.assert_allclose(delta(module), dense.reshape(7, -1), rtol=1e-12, atol=1e-14)


def test_a_convolution_in_tucker_form_is_two_convolutions_in_a_row(make_file: Make) -> None:
    down, mid, up = normal(4, 5, 1, 1), normal(4, 4, 3, 2, seed=1), normal(7, 4, 1, 1, seed=2)
    stem = "lora_unet_down_blocks_1_resnets_0_conv1"
    tensors = {f"{stem}.lora_{name}.weight": x for name, x in (("down", down), ("mid", mid), ("up", up))}
    adapter = adapters.open(make_file(tensors | {f"{stem}.alpha": np.array(2.0)}))
    (module,) = adapter.modules
    assert (module.kind, module.r, module.in_features, module.parameters) == ("conv2d", 4, 30, 20 + 96 + 28)
    dense = 0.5 * np.einsum("oixy,ijkl,jcxy->ockl", up.astype(np.float64), mid, down)
    np.testing.assert_allclose(delta(module), dense.reshape(7, -1), rtol=1e-12, atol=1e-14)
    assert adapter.carried == ()


def test_the_core_of_a_one_dimensional_convolution(make_file: Make) -> None:
    down, mid, up = normal(2, 5, 1), normal(2, 2, 3, seed=1), normal(7, 2, 1, seed=2)
    tensors = {f"c.lora_{name}.weight": x for name, x in (("down", down), ("mid", mid), ("up", up))}
    (module,) = adapters.open(make_file(tensors)).modules
    dense = np.einsum("oix,ijk,jcx->ock", up.astype(np.float64), mid, down)
    assert module.kind == "conv1d"
    np.testing.assert_allclose(delta(module), dense.reshape(7, -1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        (Q, "lora_unet_mid_block_attentions.0.transformer_blocks.0.attn1_to_q"),
        (
            "lora_te1_text_model_encoder_layers_11_self_attn_q_proj",
            "lora_te1_text_model_encoder_layers.11.self_attn_q_proj",
        ),
        ("lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_double_blocks.0.img_attn_qkv"),
        ("diffusion_model.blocks.0.cross_attn.k", "diffusion_model.blocks.0.cross_attn.k"),
        ("transformer_blocks.3.attn.to_out.0", "transformer_blocks.3.attn.to_out.0"),
        ("lora_unet__orig_mod_x", "lora_unet__orig_mod_x"),
    ],
)
def test_names(stem: str, name: str, make_file: Make) -> None:
    (module,) = adapters.open(make_file(pair(stem))).modules
    assert module.name == name
    assert module.name.replace(".", "_") == stem.replace(".", "_")


def test_parts_of_a_layer_share_its_alpha(make_file: Make, tmp_path: Path) -> None:
    """As ``split_qkv`` of sd-scripts trains them."""
    stem = "lora_unet_double_blocks_3_img_attn_qkv"
    tensors = {
        f"{stem}.lora_{side}.{i}.weight": x
        for i in range(3)
        for side, x in (("down", normal(4, 6)), ("up", normal(8, 4)))
    }
    path = make_file(tensors | {f"{stem}.alpha": np.array(2.0, np.float32)} | pair())
    adapter = adapters.open(path)
    parts = [module for module in adapter.modules if "qkv" in module.name]
    assert [module.name for module in parts] == [f"lora_unet_double_blocks.3.img_attn_qkv.{i}" for i in range(3)]
    assert ({module.scaling for module in parts}, adapter.carried) == ({0.5}, ())
    np.testing.assert_allclose(delta(parts[1]), 0.5 * normal(8, 4).astype(np.float64) @ normal(4, 6), rtol=1e-14)
    with pytest.raises(AdapterError, match=r"lora_down\.0\.weight: one of several parts of a layer, with one alpha"):
        resize(path, tmp_path / "out", ResizeOptions(rank=2))


def test_modules_in_natural_order(make_file: Make) -> None:
    stems = [f"lora_unet_blocks_{i}_to_{x}" for i in (10, 2) for x in "vq"]
    tensors = {key: x for stem in stems for key, x in pair(stem).items()}
    opened = adapters.open(make_file(tensors))
    assert [m.name for m in opened.modules] == [f"lora_unet_blocks.{i}.to_{x}" for i in (2, 10) for x in "qv"]


def test_what_is_carried_is_said(make_file: Make) -> None:
    more = {
        f"{Q}.dora_scale": normal(8, 1),
        "diffusion_model.norm.diff": normal(3),
        "diffusion_model.norm.diff_b": normal(3),
        "lora_unet_norm1.w_norm": normal(3),
        "lora_unet_norm1.b_norm": normal(3),
        "bundle_emb.token.clip_l": normal(2, 3),
        "lora_te_fc1.alpha": np.array(1.0),
    }
    adapter = adapters.open(make_file(pair() | more))
    assert set(adapter.carried) == set(more)
    assert any("DoRA" in note for note in adapter.notes)
    assert any(note.startswith("4 tensors are differences of a whole weight") for note in adapter.notes)


@pytest.mark.parametrize("more", [{}, {f"{Q}.alpha": np.array(2.0)}])
def test_a_stored_scale_is_the_scaling(more: dict[str, np.ndarray], make_file: Make, tmp_path: Path) -> None:
    adapter = adapters.open(make_file(pair() | {f"{Q}.scale": np.array(0.25, np.float32)} | more))
    assert (adapter.modules[0].scaling, adapter.carried) == (0.25, ())
    (note,) = adapter.notes
    assert note.startswith("A scale is stored for 1 of 1 modules")
    resize(adapter.source, tmp_path / "out", ResizeOptions(rank=2))
    (module,) = adapters.open(tmp_path / "out").modules
    assert (module.alpha, module.scaling) == (f"{Q}.alpha", 0.25)


def test_the_sparse_part_of_an_update_is_said(make_file: Make) -> None:
    sparse = {"indices": np.zeros((2, 1), np.int16), "values": normal(1), "size": np.array([8, 6], np.int16)}
    adapter = adapters.open(
        make_file(pair() | {f"{Q}.alpha": np.array(2.0)} | {f"{Q}.bias_{k}": x for k, x in sparse.items()})
    )
    assert len(adapter.carried) == 3
    (note,) = adapter.notes
    assert note.startswith("The updates of 1 modules have a sparse part too")


def test_a_stored_alpha_of_zero_is_said(make_file: Make) -> None:
    adapter = adapters.open(make_file(pair() | {f"{Q}.alpha": np.array(0.0)}))
    assert adapter.modules[0].scaling == 0
    assert any("alpha of 0" in note for note in adapter.notes)


REFUSED: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "alpha NaN": (pair() | {f"{Q}.alpha": np.array(np.nan)}, r"to_q\.alpha: nan is no usable alpha"),
    "alpha huge": (pair() | {f"{Q}.alpha": np.array(1e308)}, r"1e\+308 is no usable alpha"),
    "alpha a matrix": (pair() | {f"{Q}.alpha": normal(2, 2)}, r"float32 \(2, 2\) where one number is needed"),
    "alpha a truth": (pair() | {f"{Q}.alpha": np.array(True)}, r"bool \(\) where one number is needed"),
    "no up": (
        {f"{Q}.lora_down.weight": normal(4, 6)},
        r"to_q\.lora_down\.weight: a factor without its partner",
    ),
    "one without up": (
        pair() | {"lora_unet_x.lora_down.weight": normal(4, 6)},
        r"lora_unet_x\.lora_down\.weight: a factor without its partner",
    ),
    "a core alone": (pair() | {"x.lora_mid.weight": normal(4, 4, 3, 3)}, r"x\.lora_mid\.weight: a factor without"),
    "other ranks": (
        {"x.lora_down.weight": normal(4, 6), "x.lora_up.weight": normal(8, 3)},
        r"x\.lora_down\.weight: its shape \(4, 6\) does not fit the shape \(8, 3\)",
    ),
    "a kernel in up": (
        {"x.lora_down.weight": normal(4, 6, 1, 1), "x.lora_up.weight": normal(8, 4, 3, 3)},
        "does not fit",
    ),
    "a core of another rank": (
        {
            "x.lora_down.weight": normal(4, 6, 1, 1),
            "x.lora_mid.weight": normal(3, 3, 3, 3),
            "x.lora_up.weight": normal(8, 4, 1, 1),
        },
        r"x\.lora_mid\.weight: its shape \(3, 3, 3, 3\) does not fit between",
    ),
    "a core and a kernel": (
        {
            "x.lora_down.weight": normal(4, 6, 3, 3),
            "x.lora_mid.weight": normal(4, 4, 3, 3),
            "x.lora_up.weight": normal(8, 4, 1, 1),
        },
        "does not fit between",
    ),
    "a core that unfolds": (
        {
            "x.lora_down.weight": normal(1, 9000, 1, 1),
            "x.lora_mid.weight": normal(1, 1, 9000, 1),
            "x.lora_up.weight": normal(1, 1, 1, 1),
        },
        r"would spread over 1×81,000,000",
    ),
    "integers": (
        {"x.lora_down.weight": np.ones((4, 6), np.int8), "x.lora_up.weight": normal(8, 4)},
        r"x\.lora_down\.weight: stored as int8",
    ),
    "one dimension": ({"x.lora_down.weight": normal(4), "x.lora_up.weight": normal(8, 4)}, "is that of no factor"),
    "a LoHa beside": (pair() | {"x.hada_w1_a": normal(4, 6)}, "a LoHa of LyCORIS"),
    "another form": (pair() | {"x.lora_up.one.weight": normal(4, 6)}, "looks like a LoRA factor, but its name"),
    "a factor twice": (
        pair() | {f"{Q}.lora_up.default.weight": normal(8, 4)},
        "the same tensor of .* is stored as",
    ),
    "two names that become one": (
        pair("lora_unet_a_1_b") | pair("lora_unet_a.1.b"),
        r"a second update of the module lora_unet_a\.1\.b",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, make_file: Make) -> None:
    tensors, message = REFUSED[case]
    with pytest.raises(AdapterError, match=message) as caught:
        adapters.open(make_file(tensors))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bit_floats_are_what_torch_says(dtype: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {key: torch.from_numpy(x).to(getattr(torch, dtype)) for key, x in pair().items()}
    save_file(tensors | {f"{Q}.alpha": torch.tensor(2.0).to(getattr(torch, dtype))}, tmp_path / "lora.safetensors")
    adapter = adapters.open(tmp_path)
    (module,) = adapter.modules
    lora_A, lora_B = module.factors()
    assert (module.dtype, module.scaling) == (dtype, 0.5)
    np.testing.assert_array_equal(lora_A, tensors[f"{Q}.lora_down.weight"].double().numpy())
    np.testing.assert_array_equal(lora_B, tensors[f"{Q}.lora_up.weight"].double().numpy())
    assert "without a scale" in adapter.notes[-1]


def test_the_scale_of_an_eight_bit_factor_is_not_passed_over(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {key: torch.from_numpy(x).to(torch.float8_e4m3fn) for key, x in pair().items()}
    save_file(tensors | {f"{Q}.lora_down.weight_scale": torch.ones(())}, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match="weight_scale: looks like a LoRA factor"):
        adapters.open(tmp_path)


def test_a_name_cannot_move_the_cursor(make_file: Make) -> None:
    with pytest.raises(AdapterError) as caught:
        adapters.open(make_file(pair() | {"\x1b[2J\nx.lora_down.weight": normal(4, 6)}))
    assert str(caught.value).isprintable()


def test_nan_is_named_when_it_is_read(make_file: Make) -> None:
    tensors = pair()
    tensors[f"{Q}.lora_up.weight"][0, 0] = np.nan
    (module,) = adapters.open(make_file(tensors)).modules
    with pytest.raises(NumericsError, match=r"lora_up\.weight: 1 of its 32 numbers is NaN"):
        module.factors()


def test_a_folder_with_other_things_in_it(make_file: Make) -> None:
    path = make_file(pair(), name="my style.safetensors")
    for name in ("README.md", "sample.png", "optimizer.pt", "training_args.bin", "model_index.json"):
        (path.parent / name).write_text("x")
    assert adapters.open(path.parent).source == path.parent
    (path.parent / "preview.gguf").write_text("x")
    assert len(adapters.open(path.parent).modules) == 1


def test_two_files_have_to_be_told_apart(make_file: Make) -> None:
    make_file(pair(), name="a.safetensors")
    path = make_file(pair(), name="b.safetensors")
    with pytest.raises(AdapterError, match=r"2 files of tensors: a\.safetensors, b\.safetensors\. Name one of them"):
        adapters.open(path.parent)


def test_a_folder_of_another_method_says_so(make_file: Make) -> None:
    make_file({"x.lokr_w1": normal(4, 6)}, name="a.safetensors")
    path = make_file({"y.lokr_w1": normal(4, 6)}, name="b.safetensors")
    with pytest.raises(AdapterError, match="in each of its 2 files: a LoKr of LyCORIS"):
        adapters.open(path.parent)


def test_a_single_adapter_has_no_names(make_file: Make) -> None:
    with pytest.raises(AdapterError, match="holds no adapter named default, but a single one"):
        adapters.open(make_file(pair()) / "default")

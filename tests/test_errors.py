"""What a package that is missing, or broken, is told as."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorarank.errors import AdapterError, MissingExtraError, needing


def test_a_package_that_is_not_there_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtraError) as caught, needing("the plot", "not_there", extra="plot"):
        import not_there.figure  # noqa: F401
    assert str(caught.value) == (
        "the plot: needs the package not_there, which is not installed. "
        "Install the extra with: pip install 'lorarank[plot]'."
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "from json import no_such_name",
            "json, which cannot be imported: cannot import name 'no_such_name'",
        ),
        ("import its_own_dependency", "the package its_own_dependency, which is not installed. Install"),
        (
            "raise OSError('libcudart.so.12: cannot open shared object file')",
            "broken, which cannot be imported: libc",
        ),
    ],
)
def test_a_package_that_is_there_and_broken_is_no_bug_of_ours(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError) as caught, needing("my-lora.bin", "broken", extra="probe"):
        import broken  # noqa: F401
    assert said in str(caught.value)


def test_what_is_wrong_with_our_own_modules_is_not_blamed_on_others() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"lorarank\.no_such_module") as caught, needing("it", "x", extra="x"):
        import lorarank.no_such_module  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)
    with pytest.raises(AdapterError), needing("it", "x", extra="x"):
        raise AdapterError("file", "is damaged")

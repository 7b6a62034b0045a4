"""What goes in: NumPy, torch, lists; and the sentences that refuse the rest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from logitlab.analysis import accuracy, arrays, class_separation
from logitlab.analysis.arrays import Rows, read_flags, read_labels
from logitlab.config.errors import InputError


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6.0).reshape(3, 2),
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.arange(6).reshape(3, 2),
        torch.arange(6.0).reshape(3, 2),
        torch.arange(6, dtype=torch.bfloat16).reshape(3, 2).requires_grad_(),
        [[0, 1], [2, 3], [4, 5]],
    ],
)
def test_every_kind_of_matrix(values: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 4)
    rows = Rows(values, "x")
    chunks = list(rows.chunks())
    assert [where for where, _ in chunks] == [slice(0, 2), slice(2, 3)]
    assert all(chunk.dtype == torch.float64 and not chunk.requires_grad for _, chunk in chunks)
    assert torch.equal(torch.cat([chunk for _, chunk in chunks]).flatten(), torch.arange(6.0).double())


def test_a_row_wider_than_a_chunk_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 3)
    assert [chunk.shape for _, chunk in Rows(np.ones((2, 5)), "x").chunks()] == [(1, 5), (1, 5)]


def test_a_read_only_memory_map_is_read_in_chunks(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 4)), generator.integers(0, 3, 60)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert class_separation(mapped, y).value == class_separation(x, y).value


def test_negative_strides_are_read() -> None:
    assert accuracy(np.eye(3)[::-1], np.arange(3)[::-1]).value == 1


def test_numbers_of_python_keep_their_precision() -> None:
    # Rounded to float32, 1e-9 would be lost beside 1.
    chunks = [chunk for _, chunk in Rows([[1.0, 1.0 + 1e-9]], "x").chunks()]
    assert chunks[0][0, 1] - 1 == pytest.approx(1e-9, rel=1e-6)
    assert next(iter(Rows([[2**53 - 1]], "x").chunks()))[1].item() == 2**53 - 1


def test_the_input_is_left_alone() -> None:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    class_separation(x, torch.arange(10) % 2, "centered_cosine")
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), r"\[N, D\].*\[3\]"),
        (np.zeros((0, 3)), r"not empty.*\[0, 3\]"),
        (np.zeros((3, 0)), r"not empty.*\[3, 0\]"),
        (np.zeros((2, 2), dtype=complex), "real numbers"),
        (np.zeros((2, 2), dtype=bool), "real numbers"),
        (np.array([["a", "b"]]), "list of numbers"),
        ([["a"]], "list of numbers"),
        ([[1.0], [1.0, 2.0]], "list of numbers"),
        (None, "list of numbers"),
    ],
)
def test_what_is_no_matrix_is_refused(values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rows(values, "x")


def test_the_row_of_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 4)
    values = np.zeros((7, 2))
    values[5, 1] = np.inf
    with pytest.raises(InputError, match=r"'x' with finite values.*row 5"):
        list(Rows(values, "x").chunks())
    assert len(list(Rows(values, "x", allow_infinite=True).chunks())) == 4
    vector = np.array([0.0, np.nan])
    with pytest.raises(InputError, match="row 1"):
        list(Rows(vector, "x", dimensions=1, allow_infinite=True).chunks())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "integers"),
        ([True, False], "integers"),
        (np.array([1j, 2j]), "integers"),
        ([0, 1, 2], r"\[2\].*\[3\]"),
        ([[0, 1]], r"\[2\]"),
        ([0, 3], "0 to 2.*from 0 to 3"),
        ([-1, 0], "from -1 to 0"),
        ("ab", "list of numbers"),
    ],
)
def test_what_is_no_label_is_refused(labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(labels, "y", 2, 3)


def test_labels_without_a_range_may_be_anything() -> None:
    assert read_labels(np.array([-5, 10**9], dtype=np.int64), "y", 2).tolist() == [-5, 10**9]
    assert read_labels(np.array([3, 250], dtype=np.uint8), "y", 2).dtype == torch.int64


def test_flags() -> None:
    for flags in ([True, False], np.array([1, 0]), torch.tensor([1.0, 0.0])):
        assert read_flags(flags, "correct", 2).tolist() == [True, False]


def test_import_needs_torch_alone() -> None:
    """A clean core install has no NumPy; here it is hidden."""
    code = (
        "import sys\n"
        "for name in ('numpy', 'scipy', 'sklearn', 'pydantic'):\n    sys.modules[name] = None\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import torch, logitlab.analysis as a\n"
        "x = torch.eye(4)\n"
        "print(a.accuracy(x, [0, 1, 2, 3]).value, a.class_separation(x, [0, 0, 1, 1]).value > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1.0 True", done.stderr


def test_feature_maps_are_flattened_where_asked_for() -> None:
    values = np.arange(24.0).reshape(2, 3, 2, 2)
    with pytest.raises(InputError, match=r"\[N, D\], not empty.*\[2, 3, 2, 2\]"):
        Rows(values, "x")
    rows = Rows(values, "x", flatten=True)
    assert rows.shape == (2, 12)
    assert torch.equal(torch.cat([chunk for _, chunk in rows.chunks()]).flatten(), torch.arange(24.0).double())


def test_columns_hold_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 4)
    values = np.arange(10).reshape(2, 5)
    parts = list(Rows(values, "x").columns())
    assert [where for where, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert torch.equal(torch.cat([chunk for _, chunk in parts], dim=1), torch.from_numpy(values).double())
    bad = np.where(values == 8, np.nan, values)
    with pytest.raises(InputError, match="row 1"):
        list(Rows(bad, "x").columns())


def test_chunks_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 4)
    rows = Rows(np.ones((8, 2)), "x")
    assert [len(chunk) for _, chunk in rows.passing_chunks(3)] == [6, 2]
    assert [len(chunk) for _, chunk in rows.passing_chunks(3, width=4)] == [3, 3, 2]


def test_sums_beyond_float64_are_no_infinity() -> None:
    # The quick check sums a chunk; these are finite numbers all the same.
    assert len(list(Rows(np.full((3, 2), 1.5e308), "x").chunks())) == 1


@pytest.mark.parametrize("kind", ["tensor", "map", "reversed", "maps", "float64"])
def test_passing_chunks_are_the_callers(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 6)
    plain = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.save(tmp_path / "x.npy", plain)
    values = {
        "tensor": torch.from_numpy(plain).requires_grad_(),
        "map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "reversed": plain[::-1, ::-1].copy()[::-1, ::-1],
        "maps": torch.from_numpy(plain).reshape(7, 1, 2, 1),
        "float64": torch.from_numpy(plain).double(),
    }[kind]
    rows = Rows(values, "x", flatten=True)
    expected = torch.from_numpy(plain).double()
    for where, chunk in rows.passing_chunks():
        assert torch.equal(chunk, expected[where])
        chunk.zero_()
    # What the caller does with a chunk stays with the caller.
    for where, chunk in rows.passing_chunks():
        assert torch.equal(chunk, expected[where])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_row_of_passing_chunks_is_named(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_ELEMENTS", 4)
    values = np.zeros((7, 2), dtype=np.float32)
    values[5, 1] = bad
    with pytest.raises(InputError, match="row 5"):
        list(Rows(values, "x").passing_chunks())
    for distance in ("cosine", "centered_cosine", "euclidean"):
        with pytest.raises(InputError, match=r"'x' with finite values.*row 5"):
            class_separation(values, np.arange(7) % 2, distance)  # type: ignore[arg-type]

"""The reference's pickles are read; nothing in a pickle is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tte
from tte.mmeb.score.pickles import read_array, read_vectors


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ">f4"])
def test_arrays_of_every_protocol(tmp_path: Path, protocol: int, dtype: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    path = tmp_path / "DS_qry"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    np.testing.assert_array_equal(read_array(path), values.astype(np.float32))
    path.write_bytes(pickle.dumps(np.asfortranarray(values), protocol=protocol))
    np.testing.assert_array_equal(read_array(path), values.astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_dicts_of_vectors_keep_their_order(tmp_path: Path, protocol: int) -> None:
    vectors = {name: np.full(3, i, np.float32) for i, name in enumerate(["b", "a", "", "ü"])}
    path = tmp_path / "DS_tgt"
    path.write_bytes(pickle.dumps(vectors, protocol=protocol))
    names, values = read_vectors(path)
    assert names == ["b", "a", "", "ü"]
    np.testing.assert_array_equal(values[:, 0], [0, 1, 2, 3])


def test_older_numpy(tmp_path: Path) -> None:
    path = tmp_path / "DS_qry"
    data = pickle.dumps(np.ones((2, 2), np.float32), protocol=2)
    path.write_bytes(data.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))
    np.testing.assert_array_equal(read_array(path), np.ones((2, 2)))


class Runs:
    """Would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def hostile(tmp_path: Path) -> list[bytes]:
    made = tmp_path / "made"
    return [
        pickle.dumps(Runs(made)),
        pickle.dumps({"a": Runs(made)}),
        pickle.dumps(np.array([Runs(made)], dtype=object)),
        pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
        pickle.dumps(np.array(["a"])),
        b'cbuiltins\neval\n(S\'__import__("os").mkdir("' + str(made).encode() + b"\")'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\nndarray\n(I1000000000000\ntR.",
        b"Pid\n.",
        b"",
        b"garbage",
        pickle.dumps(np.ones((2, 2), np.float32))[:-10],
    ]


@pytest.mark.parametrize("number", range(12))
def test_everything_else_is_refused(tmp_path: Path, number: int) -> None:
    path = tmp_path / "DS_qry"
    path.write_bytes(hostile(tmp_path)[number])
    with pytest.raises(tte.InputError, match="DS_qry"):
        read_array(path)
    with pytest.raises(tte.InputError, match="DS_qry"):
        read_vectors(path)
    assert not (tmp_path / "made").exists()


def test_content_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "DS_tgt"
    for value in ({"a": np.zeros((2, 2), np.float32)}, {"a": 1}, {}, {"a": np.zeros(2, "f4"), "b": np.zeros(3, "f4")}):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(tte.InputError, match="DS_tgt"):
            read_vectors(path)
    path.write_bytes(pickle.dumps(np.zeros(3, np.float32)))
    with pytest.raises(tte.InputError, match=r"one array \[N, D\]"):
        read_array(path)
    with pytest.raises(tte.InputError, match="absent"):
        read_array(tmp_path / "absent")

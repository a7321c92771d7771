"""CSV files and the parts that samples are split into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from drivetrain.agents import tables
from drivetrain.agents.samples import Rows, in_order, split_classes, split_rows
from drivetrain.agents.tables import read_table
from drivetrain.envs.errors import UserError


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "t.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("text", "names", "values"),
    [
        ("x,y\n1,2\n3,4\n", ("x", "y"), [[1, 2], [3, 4]]),
        ("1,2\n3,4", ("x", "y"), [[1, 2], [3, 4]]),
        ("\ufefftime, speed ,gas\r\n\r\n1e3,-.5,+2\r\n", ("time", "speed", "gas"), [[1000, -0.5, 2]]),
        ('"a","b"\n"1","2"\n', ("a", "b"), [[1, 2]]),
        ("7\n8\n", ("x",), [[7], [8]]),
    ],
)
def test_a_table_is_read_with_or_without_names(tmp_path: Path, text: str, names, values) -> None:
    table = read_table(written(tmp_path, text))
    assert table.names == names and table.values.tolist() == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("x,y\n", "is empty"),
        ("x,y\n1,2\n3,four\n", "line 3, column y holds no number; got 'four'"),
        ("x,y\n1,\n", "line 2, column y holds no number; got an empty cell"),
        ("x,y\n1,2\nnan,1\n", "line 3, column x is not finite; got nan"),
        ("x,y\n1,inf\n", "line 2, column y is not finite"),
        ("x,y\n1,2,3\n", "line 2 has another number of columns; got 3; allowed 2"),
        ("1,a\n", "line 1, column y holds no number"),
        ("x,x\n1,2\n", "columns need names of their own"),
        ("x;y\n1;2\n", "too few columns"),
        (b"\xff\xfe\x00", "is no text file"),
        ("x,y\n1,2\n" + '"' + "a" * 200_000 + '",1\n', "is no line of a CSV file"),
    ],
)
def test_a_bad_table_is_refused_and_the_line_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match="(?s)" + said.replace("(", r"\(")):
        read_table(written(tmp_path, text), columns=2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none\.csv; got No such file"):
        read_table(tmp_path / "none.csv")


def test_a_long_table_goes_to_disk_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK", 7)
    values = np.arange(40.0).reshape(20, 2)
    table = read_table(written(tmp_path, "\n".join(f"{a},{b}" for a, b in values)))
    assert isinstance(table.values, np.memmap) and table.values.tolist() == values.tolist()
    x, y = Rows(table.values[:, :1], table.values[:, 1:]).take(torch.tensor([19, 0]))
    assert (x.tolist(), y.tolist()) == ([[38.0], [0.0]], [[39.0], [1.0]])


@pytest.mark.golden
def test_rows_are_split_without_overlap_and_the_same_way_for_a_seed() -> None:
    # of 100 rows 20 are for the test, a quarter of the other 80 for validation
    split = split_rows(100, 0.25, 0.2, rng(3))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [60, 20, 20]
    assert torch.cat((split.train, split.validation, split.test)).sort().values.tolist() == list(range(100))
    assert torch.equal(split.train, split_rows(100, 0.25, 0.2, rng(3)).train)
    assert not torch.equal(split.train, split_rows(100, 0.25, 0.2, rng(4)).train)
    with pytest.raises(UserError, match="too few samples"):
        split_rows(2, 0.1, 0.1, rng())


@pytest.mark.golden
def test_every_class_is_in_every_part_where_it_can_be() -> None:
    # 40 zeros, 20 ones, 3 twos, 2 threes; a fifth is for the test, a quarter of the rest for validation
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 3 + [3] * 2)
    split = split_classes(labels, 0.25, 0.2, rng())
    counts = [
        torch.bincount(labels[part], minlength=4).tolist() for part in (split.test, split.validation, split.train)
    ]
    assert counts == [[8, 4, 1, 1], [8, 4, 1, 0], [24, 12, 1, 1]]
    assert torch.cat((split.train, split.validation, split.test)).sort().values.tolist() == list(range(65))
    again = split_classes(labels, 0.25, 0.2, rng())
    assert torch.equal(split.train, again.train) and torch.equal(split.test, again.test)


def test_a_class_with_one_sample_is_refused() -> None:
    with pytest.raises(UserError, match="the class 1 has one sample; got 1; allowed 2 or more"):
        split_classes(torch.tensor([0, 0, 1, 2, 2]), 0.1, 0.2, rng())


def test_a_whole_source_is_read_in_the_order_of_storage() -> None:
    assert [piece.tolist() for piece in in_order(torch.tensor([5, 1, 4, 0]), 3)] == [[0, 1, 4], [5]]

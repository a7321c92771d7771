"""Labelled pictures from arrays and folders, and what is done to them at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.agents.augment import Augmentation, coloured, mirror_map, shifted
from drivetrain.agents.images import digits, read_pictures
from drivetrain.envs.errors import UserError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def save_picture(file: Path, levels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(file)


def pictures(count: int = 6, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *(shape or (5, 4, 3))), np.uint8)


def test_an_npz_is_read_and_its_labels_counted_from_zero(tmp_path: Path) -> None:
    x, y = pictures(4, 5, 4), np.array([7, -1, 7, 30])
    np.savez(tmp_path / "d.npz", x=x, y=y)
    found = read_pictures(tmp_path / "d.npz")
    assert (found.shape, found.classes, found.labels.tolist()) == ((5, 4, 1), ("-1", "7", "30"), [1, 0, 1, 2])
    taken, labels = found.source.take(torch.tensor([3, 0]))
    assert (taken[..., 0].numpy() == x[[3, 0]]).all() and labels.tolist() == [2, 1]


def test_an_npy_stays_on_the_disk(tmp_path: Path) -> None:
    x = pictures()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(6) % 2)
    found = read_pictures(tmp_path / "x.npy", tmp_path / "y.npy")
    # the file is mapped: what is written into it later is what is read
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    mapped[4] = 9
    mapped.flush()
    assert (found.source.take(torch.tensor([4]))[0] == 9).all()
    assert found.shape == (5, 4, 3)


def test_a_folder_gives_its_pictures_when_they_are_asked_for(tmp_path: Path) -> None:
    x = pictures(3)
    for name, levels in zip(("cat/b.png", "cat/a.png", "dog/c.png"), x, strict=True):
        save_picture(tmp_path / name, levels)
    (tmp_path / "cat" / ".hidden").write_text("no picture")
    found = read_pictures(tmp_path)
    assert (found.classes, found.shape, found.labels.tolist()) == (("cat", "dog"), (5, 4, 3), [0, 0, 1])
    taken, labels = found.source.take(torch.tensor([2, 0, 1]))  # sorted by name: a.png comes first
    assert (taken.numpy() == x[[2, 1, 0]]).all() and labels.tolist() == [1, 0, 0]
    (tmp_path / "dog" / "c.png").unlink()
    with pytest.raises(UserError, match=r"cannot read the picture .*c\.png; got No such file"):
        found.source.take(torch.tensor([2]))


def test_grey_pictures_have_one_channel_and_grey_beside_colour_has_three(tmp_path: Path) -> None:
    save_picture(tmp_path / "a" / "1.png", pictures(1, 5, 4)[0])
    save_picture(tmp_path / "b" / "1.png", pictures(1, 5, 4)[0])
    assert read_pictures(tmp_path).shape == (5, 4, 1)
    save_picture(tmp_path / "b" / "2.png", pictures(1)[0])
    found = read_pictures(tmp_path)
    assert found.shape == (5, 4, 3) and found.source.take(torch.tensor([0, 2]))[0].shape == (2, 5, 4, 3)


def test_a_folder_of_bad_pictures_is_refused_and_the_file_named(tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words):
            read_pictures(tmp_path)

    refused("holds no classes; got no sub-folder")
    save_picture(tmp_path / "a" / "1.png", pictures(1)[0])
    refused("nothing to tell apart; got 1 class")
    (tmp_path / "b").mkdir()
    refused(r"the class .*b holds no pictures")
    (tmp_path / "b" / "1.png").write_text("hello")
    refused(r"cannot read the picture .*b/1\.png; got no picture")
    save_picture(tmp_path / "b" / "1.png", pictures(1, 5, 6, 3)[0])
    refused(r"b/1\.png has another size than .*a/1\.png; got 6x5; allowed 4x5")
    whole = tmp_path / "b" / "1.png"
    save_picture(whole, pictures(1)[0])
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(UserError, match=r"cannot read the picture .*b/1\.png"):
        read_pictures(tmp_path).source.take(torch.tensor([1]))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.arange(3)}, "holds no array x; got y"),
        ({"x": pictures(3), "labels": np.arange(3)}, "holds no array y"),
        ({"x": pictures(3).astype(np.float32), "y": np.arange(3)}, "another form; got float32"),
        ({"x": pictures(3, 5), "y": np.arange(3)}, r"another form; got uint8 \[3, 5\]"),
        (
            {"x": pictures(3), "y": np.arange(4)},
            r"labels y .* another form; got int64 \[4\]; allowed whole numbers \[3\]",
        ),
        ({"x": pictures(3), "y": np.arange(3.0)}, "labels y .* another form; got float64"),
        ({"x": pictures(3), "y": np.zeros(3, int)}, "nothing to tell apart; got 1 class"),
        ({"x": pictures(3)[:0], "y": np.arange(0)}, "another form"),
        ({"x": np.array([object()] * 3), "y": np.arange(3)}, "holds no arrays of numbers"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, arrays: dict, said: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=said):
        read_pictures(tmp_path / "d.npz")


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.npz"
    np.savez(cut, x=pictures(), y=np.arange(6))
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UserError, match="holds no arrays of numbers"):
        read_pictures(cut)
    with pytest.raises(UserError, match=r"cannot read .*nowhere"):
        read_pictures(tmp_path / "nowhere")
    np.save(tmp_path / "x.npy", pictures())
    with pytest.raises(UserError, match=r"is no set of pictures; got \.npy"):
        read_pictures(tmp_path / "x.npy")


def test_the_digits_are_those_of_scikit_learn() -> None:
    found = digits()
    assert (len(found.source), found.shape, found.classes) == (1_797, (8, 8, 1), tuple("0123456789"))
    taken, _ = found.source.take(torch.arange(1_797))
    assert (int(taken.min()), int(taken.max())) == (0, 255)


@pytest.mark.oracle
def test_a_shift_is_that_of_a_loop() -> None:
    x = torch.from_numpy(pictures(40, 6, 5, 2))
    moved = shifted(x, 2, rng())
    places = set()
    for one, other in zip(x, moved, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if all(
                torch.equal(other[r, c], one[min(max(r - down, 0), 5), min(max(c - right, 0), 4)])
                for r in range(6)
                for c in range(5)
            )
        ]
        assert len(matches) == 1
        places.add(matches[0])
    assert len(places) > 12


@pytest.mark.golden
def test_colours_change_by_no_more_than_asked_and_each_channel_by_its_own_factor() -> None:
    # brightness and channel by 0.5 each: from 100 to between 25 and 225
    x = torch.full((500, 2, 2, 3), 100, dtype=torch.uint8)
    y = coloured(x, 0.5, rng()).float()
    assert 25 <= y.min() < 40 and 200 < y.max() <= 225
    assert (y == y[:, :1, :1]).all()  # all pixels of a channel alike
    assert float((y[:, 0, 0, 0] - y[:, 0, 0, 1]).abs().mean()) > 10
    assert coloured(torch.full((9, 2, 2, 1), 250, dtype=torch.uint8), 1.0, rng()).max() == 255


@pytest.mark.golden
def test_a_mirror_turns_the_picture_and_its_label_together() -> None:
    classes = ("left", "right", "straight")
    swap = mirror_map({"left": "right"}, classes)
    assert swap is not None and swap.tolist() == [1, 0, 2]
    # one bright column: on the left in "left", on the right in "right", in the middle in "straight"
    x = torch.zeros(300, 4, 3, 1, dtype=torch.uint8)
    y = torch.arange(300) % 3
    column = torch.tensor([0, 2, 1])
    x[torch.arange(300), :, column[y]] = 255
    seen, labels = Augmentation(mirror=True, mirror_labels=swap)(x, y, rng())
    assert torch.equal(seen[:, 0, :, 0].argmax(-1), column[labels])
    turned = (labels != y).sum()
    assert 70 < turned < 130  # half of the 200 that have a partner
    seen, labels = Augmentation(mirror=True)(x, y, rng())
    assert torch.equal(labels, y) and not torch.equal(seen, x)


def test_wrong_pairs_of_a_mirror_are_refused() -> None:
    classes = ("left", "right", "straight")
    with pytest.raises(UserError, match=r"names no class; got rigth; .* did you mean right"):
        mirror_map({"left": "rigth"}, classes)
    with pytest.raises(UserError, match="names a class twice"):
        mirror_map({"left": "right", "straight": "left"}, classes)
    assert mirror_map({}, classes) is None


def test_nothing_is_done_where_nothing_is_asked() -> None:
    assert not Augmentation().changes and Augmentation(shift=1).changes
    x, y = torch.from_numpy(pictures()), torch.arange(6)
    again, labels = Augmentation()(x, y, rng())
    assert torch.equal(again, x) and torch.equal(labels, y)

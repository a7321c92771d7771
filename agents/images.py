"""Labelled pictures: arrays in an .npz or in .npy files, a folder with one sub-folder a class, or handwritten digits.

Shapes: N pictures [H, W, C] of uint8, labels [N] int64 that count the classes from 0.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..envs.errors import UserError
from .samples import Rows, Source

INSTALL = "install it with `python -m pip install scikit-learn`, or give --data"


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one size."""

    source: Source
    labels: Tensor  # [N] int64
    classes: tuple[str, ...]  # names
    shape: tuple[int, int, int]  # H, W, C

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            got = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
            raise UserError("there is nothing to tell apart", got=got, allowed="2 classes or more")


class Folder:
    """Pictures that are read when they are asked for.

    Args:
        files: N of them.
        labels: [N] int64.
        mode: of Pillow: L for grey, RGB for colours.
    """

    def __init__(self, files: Sequence[Path], labels: Tensor, mode: str) -> None:
        self.files, self.labels, self.mode = files, labels, mode

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, H, W, C] and labels at rows [B] int64.

        Raises:
            UserError: a file that cannot be read.
        """
        return torch.stack([self._read(self.files[row]) for row in rows.tolist()]), self.labels[rows]

    def _read(self, file: Path) -> Tensor:
        with _opened(file) as picture:
            try:
                levels = np.array(picture.convert(self.mode), np.uint8)
            except (OSError, SyntaxError, ValueError) as error:
                raise _unreadable(file, error) from None
        return torch.from_numpy(levels).view(*levels.shape[:2], -1)


def digits() -> Pictures:
    """1,797 handwritten digits of 8 × 8 pixels (Alpaydin and Kaynak 1998), bundled with scikit-learn.

    Raises:
        UserError: it is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the digits come with scikit-learn, which is missing", fix=INSTALL) from None
    found = load_digits()
    levels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    return _of_arrays(levels, found.target, "the digits")


def read_pictures(data: Path, labels: Path | None = None) -> Pictures:
    """Pictures from a folder, an .npz that holds x and y, or an .npy of pictures beside one of labels.

    Args:
        data: the folder or file.
        labels: the .npy of labels, for an .npy of pictures.

    Raises:
        UserError: what is there cannot be read, is of another kind, or does not fit together.
    """
    if data.is_dir():
        return read_folder(data)
    if data.suffix == ".npz":
        arrays = _load(data, None)
        missing = [name for name in ("x", "y") if name not in arrays]
        if missing:
            holds = ", ".join(arrays) or "nothing"
            raise UserError(f"{data} holds no array {missing[0]}", got=holds, allowed="x, y", fix="name them x and y")
        return _of_arrays(arrays["x"], arrays["y"], str(data))
    if data.suffix == ".npy" and labels is not None:
        # mapped copy on write: torch wants tensors that it may write to
        return _of_arrays(_load(data, "c"), _load(labels, None), str(data))
    if not data.exists():
        raise UserError(f"cannot read {data}", got="no such file or folder", fix="check the path")
    allowed = "a folder of pictures, an .npz, or an .npy with --labels"
    raise UserError(f"{data} is no set of pictures", got=data.suffix or "no ending", allowed=allowed)


def read_folder(folder: Path) -> Pictures:
    """Pictures from a folder that has one sub-folder a class; only sizes are read now.

    Raises:
        UserError: no classes, no pictures in one, a file that is none, or pictures of different sizes.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files: list[Path] = []
    labels: list[int] = []
    for label, place in enumerate(classes):
        found = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        if not found:
            raise UserError(f"the class {place} holds no pictures", got=0, fix="remove the folder, or fill it")
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(f"{folder} holds no classes", got="no sub-folder", allowed="one sub-folder a class")
    sizes: list[tuple[int, int]] = []
    grey = True
    for file in files:
        with _opened(file) as picture:
            sizes.append(picture.size)
            grey = grey and picture.mode in ("1", "L")
        if sizes[-1] != sizes[0]:
            (width, height), (first_width, first_height) = sizes[-1], sizes[0]
            what, got = f"the picture {file} has another size than {files[0]}", f"{width}x{height}"
            raise UserError(what, got=got, allowed=f"{first_width}x{first_height}", fix="bring all to one size")
    numbers = torch.tensor(labels)
    shape = (sizes[0][1], sizes[0][0], 1 if grey else 3)
    source = Folder(files, numbers, "L" if grey else "RGB")
    return Pictures(source, numbers, tuple(path.name for path in classes), shape)


def _of_arrays(x: NDArray[Any], y: NDArray[Any], where: str) -> Pictures:
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or 0 in x.shape:
        allowed = "uint8 [N, H, W] or [N, H, W, C]"
        raise UserError(
            f"the pictures x of {where} have another form", got=f"{x.dtype} {list(x.shape)}", allowed=allowed
        )
    if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
        got, allowed = f"{y.dtype} {list(y.shape)}", f"whole numbers [{len(x)}]"
        raise UserError(f"the labels y of {where} have another form", got=got, allowed=allowed)
    values, numbers = np.unique(y, return_inverse=True)
    labels = torch.as_tensor(numbers.astype(np.int64))
    pictures = torch.as_tensor(x).view(*x.shape[:3], -1)
    shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
    return Pictures(Rows(pictures, labels), labels, tuple(str(value) for value in values), shape)


def _load(path: Path, mapped: Any) -> Any:
    """An array, or the arrays of an .npz by name; nothing in it is executed."""
    try:
        found = np.load(path, mmap_mode=mapped, allow_pickle=False)
        return {name: found[name] for name in found.files} if isinstance(found, np.lib.npyio.NpzFile) else found
    except OSError as error:
        raise UserError(f"cannot read {path}", got=error.strerror or error, fix="check the path") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} holds no arrays of numbers", got=error, allowed="what numpy.savez writes") from None


def _opened(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> UserError:
    reason = "no picture" if "cannot identify" in str(error) else getattr(error, "strerror", None) or error
    return UserError(f"cannot read the picture {file}", got=reason, fix="remove it, or save it again as PNG or JPEG")

"""Name tags beside cars, moved aside until none hides another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from .hud import PANEL, TEXT, fitted, font, unit_of

Surface = Any  # pygame.Surface
Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]

GAP = 3
"""px between tags"""
RINGS = 24
"""places tried above and on either side of a car"""
LONGEST_NAME = 120
"""layout units"""


@dataclass(frozen=True)
class Tag:
    """What is written beside one car."""

    place: Point  # px, of the car
    text: str
    colour: Colour
    square: bool = False  # its sign is a square, not a dot


def place_tags(cars: Sequence[Point], sizes: Sequence[Size], room: Size, distance: float) -> list[Point]:
    """Upper left corners of tags.

    Args:
        cars: px, what the tags belong to.
        sizes: px, (width, height) of each tag.
        room: px, (width, height) that they shall stay in.
        distance: px between a car and its tag, at least.

    Returns:
        One corner a tag: the first of the places tried where it hides no tag before it, or the first of all.
    """
    taken: list[tuple[Point, Size]] = []
    for car, size in zip(cars, sizes, strict=True):
        tried = list(_places(car, size, distance))
        free = (corner for corner in tried if _inside(corner, size, room) and not _hides(corner, size, taken))
        taken.append((next(free, tried[0]), size))
    return [corner for corner, _ in taken]


def _places(car: Point, size: Size, distance: float) -> Iterator[Point]:
    width, height = size
    for ring in range(RINGS):
        aside = ((ring + 1) // 2) * (height + GAP) * (-1 if ring % 2 else 1) - height / 2
        yield car[0] + distance, car[1] + aside
        yield car[0] - distance - width, car[1] + aside
    for ring in range(RINGS):
        yield car[0] - width / 2, car[1] - distance - height - ring * (height + GAP)


def _inside(corner: Point, size: Size, room: Size) -> bool:
    return all(low >= 0 and low + side <= most for low, side, most in zip(corner, size, room, strict=True))


def _hides(corner: Point, size: Size, others: Sequence[tuple[Point, Size]]) -> bool:
    return any(
        abs(corner[0] + size[0] / 2 - at[0] - other[0] / 2) < (size[0] + other[0]) / 2 + 1
        and abs(corner[1] + size[1] / 2 - at[1] - other[1] / 2) < (size[1] + other[1]) / 2 + 1
        for at, other in others
    )


def draw_tags(pygame: ModuleType, surface: Surface, tags: Sequence[Tag], room: Size, distance: float) -> None:
    """Paint the tags of cars that are in the room px, each with a thin line to its car."""
    unit = unit_of(surface.get_size())
    here = [tag for tag in tags if all(0 <= at < side for at, side in zip(tag.place, room, strict=True))]
    images = [_image(pygame, tag.text, tag.colour, tag.square, unit) for tag in here]
    corners = place_tags([tag.place for tag in here], [image.get_size() for image in images], room, distance)
    for tag, image, corner in zip(here, images, corners, strict=True):
        width, height = image.get_size()
        near = (min(max(tag.place[0], corner[0]), corner[0] + width), corner[1] + height / 2)
        pygame.draw.aaline(surface, PANEL, tag.place, near)
        surface.blit(image, (round(corner[0]), round(corner[1])))


@cache
def _image(pygame: ModuleType, words: str, colour: Colour, square: bool, unit: float) -> Surface:
    face = font(pygame, round(18 * unit))
    text = face.render(fitted(face, words, LONGEST_NAME * unit), True, TEXT)
    pad, dot = round(4 * unit), round(11 * unit)
    size = (text.get_width() + dot + 3 * pad, max(text.get_height(), dot) + pad)
    image = pygame.Surface(size, pygame.SRCALPHA, 32)
    pygame.draw.rect(image, (*PANEL, 205), image.get_rect(), border_radius=pad)
    draw_sign(pygame, image, (pad, (size[1] - dot) // 2, dot), colour, square)
    image.blit(text, (dot + 2 * pad, (size[1] - text.get_height() + 1) // 2))
    return image


def draw_sign(pygame: ModuleType, surface: Surface, box: tuple[int, int, int], colour: Colour, square: bool) -> None:
    """The sign of a driver, a dot or a square in its colour, in a box (left, top, side) px."""
    left, top, side = box
    if square:
        pygame.draw.rect(surface, colour, (left, top, side, side))
    else:
        pygame.draw.aacircle(surface, colour, (left + side / 2, top + side / 2), side / 2)

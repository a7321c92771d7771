"""Name tags beside cars, moved aside until none hides another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from .hud import LABEL, PANEL, TEXT, font, unit_of

Surface = Any  # pygame.Surface
Colour = tuple[int, int, int]
Point = tuple[float, float]
Size = tuple[int, int]

GAP = 3
"""px between tags"""
RINGS = 24
"""places tried above and on either side of a car"""
CAR_SHARE = 0.8
"""how much of the way from a car to its tag belongs to the car"""
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
        One corner a tag: the first of the places tried where it hides neither a car nor a tag before it, or the first.
    """
    half = distance * CAR_SHARE
    taken = list({(round(x - half), round(y - half), round(x + half), round(y + half)) for x, y in cars})
    corners = []
    for car, size in zip(cars, sizes, strict=True):
        free = (corner for corner in _places(car, size, distance) if _is_free(corner, size, room, taken))
        left, top = corner = next(free, None) or next(_places(car, size, distance))
        taken.append((round(left) - 1, round(top) - 1, round(left) + size[0] + 1, round(top) + size[1] + 1))
        corners.append(corner)
    return corners


def _places(car: Point, size: Size, distance: float) -> Iterator[Point]:
    width, height = size
    for ring in range(RINGS):
        aside = ((ring + 1) // 2) * (height + GAP) * (-1 if ring % 2 else 1) - height / 2
        yield car[0] + distance, car[1] + aside
        yield car[0] - distance - width, car[1] + aside
    for ring in range(RINGS):
        yield car[0] - width / 2, car[1] - distance - height - ring * (height + GAP)


def _is_free(corner: Point, size: Size, room: Size, taken: Sequence[tuple[int, int, int, int]]) -> bool:
    left, top = corner
    right, bottom = left + size[0], top + size[1]
    if left < 0 or top < 0 or right > room[0] or bottom > room[1]:
        return False
    for a, b, c, d in taken:  # noqa: SIM110  (asked thousands of times a picture: a plain loop is the fastest)
        if left < c and right > a and top < d and bottom > b:
            return False
    return True


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
    text = face.render(face.fitted(words, LONGEST_NAME * unit), TEXT)
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
    # a light rim: black is a colour, too, and the panels are dark
    if square:
        pygame.draw.rect(surface, LABEL, (left, top, side, side))
        pygame.draw.rect(surface, colour, (left + 1, top + 1, side - 2, side - 2))
    else:
        pygame.draw.aacircle(surface, LABEL, (left + side / 2, top + side / 2), side / 2)
        pygame.draw.aacircle(surface, colour, (left + side / 2, top + side / 2), side / 2 - 1)

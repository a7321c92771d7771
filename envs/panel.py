"""What lies over a picture: the driver's mind, the standings, help, and messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .hud import AMBER, BLUE, LABEL, PANEL, TEXT, TROUGH, Face, font, unit_of
from .tags import draw_sign

Surface = Any  # pygame.Surface
Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

VEIL = 205
"""of 255, how much a panel hides of the picture behind it"""
SPREAD: Colour = (58, 110, 146)
SMALLEST_HELP = 17
"""px, height of the letters: help must be legible in a small window, too"""


@dataclass(frozen=True)
class Axis:
    """One number that the policy chooses: a normal distribution, squashed into a range."""

    name: str
    ends: tuple[str, str]  # what the smallest and the largest number do
    low: float
    high: float
    mean: float
    below: float  # one standard deviation below the mean, before the squash
    above: float


@dataclass(frozen=True)
class Choice:
    """One action of several."""

    name: str
    share: float  # 0 to 1, length of its bar
    text: str  # its probability or Q-value in words


@dataclass(frozen=True)
class Mind:
    """What a policy thinks at the moment."""

    value: float  # points still to come, later ones discounted
    axes: tuple[Axis, ...] = ()
    choices: tuple[Choice, ...] = ()
    chosen: int = -1  # index of the choice taken


@dataclass(frozen=True)
class Standing:
    """One line of the standings."""

    name: str
    progress: float  # share of the tiles visited
    score: float
    colour: Colour
    square: bool
    followed: bool


def draw_mind(pygame: ModuleType, surface: Surface, mind: Mind, place: tuple[int, int], width: int) -> None:
    """The policy's panel, its upper left corner at place px."""
    u = unit_of(surface.get_size())
    large, small = font(pygame, round(30 * u)), font(pygame, round(17 * u))
    pad, line = round(10 * u), small.height
    row, gap = line + round(15 * u), round(4 * u)
    head = line + large.height + 2 * gap
    height = 2 * pad + head + (row + gap) * len(mind.axes) + (line + gap) * len(mind.choices)
    _veil(pygame, surface, (*place, width, height))
    x, y, inner = place[0] + pad, place[1] + pad, width - 2 * pad
    surface.blit(small.render("VALUE", LABEL), (x, y))
    number = large.render(f"{mind.value:.0f}", TEXT)
    surface.blit(number, (x, y + line + gap // 2))
    unit = small.render("points to come", LABEL)
    surface.blit(unit, (x + number.get_width() + gap, y + line + number.get_height() - unit.get_height()))
    y += head
    for axis in mind.axes:
        _draw_axis(pygame, surface, axis, (x, y, inner, row), small)
        y += row + gap
    for index, choice in enumerate(mind.choices):
        _draw_choice(pygame, surface, choice, index == mind.chosen, (x, y, inner, line), small)
        y += line + gap


def _draw_axis(pygame: ModuleType, surface: Surface, axis: Axis, box: Box, face: Face) -> None:
    """Its name between its ends, and below them the range: spread of one standard deviation, mark at the mean."""
    x, y, width, height = box
    line = face.height
    name = face.render(axis.name, TEXT)
    least, most = (face.render(text, LABEL) for text in axis.ends)
    surface.blit(least, (x, y))
    surface.blit(name, (x + (width - name.get_width()) // 2, y))
    surface.blit(most, (x + width - most.get_width(), y))
    top, bar = y + line + 2, max(5, height - line - 6)
    pygame.draw.rect(surface, TROUGH, (x, top, width, bar), border_radius=bar // 2)

    def at(value: float) -> float:
        return x + width * (value - axis.low) / (axis.high - axis.low)

    left, right = at(axis.below), at(axis.above)
    pygame.draw.rect(surface, SPREAD, (round(left), top, max(2, round(right - left)), bar))
    if axis.low < 0 < axis.high:
        pygame.draw.line(surface, LABEL, (round(at(0)), top), (round(at(0)), top + bar - 1))
    mark = max(3, bar // 3)
    pygame.draw.rect(surface, AMBER, (round(at(axis.mean) - mark / 2), top - 2, mark, bar + 4))


def _draw_choice(pygame: ModuleType, surface: Surface, choice: Choice, taken: bool, box: Box, face: Face) -> None:
    """Name, bar, number; the bar of the action taken is amber."""
    x, y, width, height = box
    surface.blit(face.render(face.fitted(choice.name, 0.42 * width), TEXT if taken else LABEL), (x, y))
    start, end = x + round(0.44 * width), x + round(0.76 * width)
    bar = max(5, round(0.6 * height))
    pygame.draw.rect(surface, TROUGH, (start, y + (height - bar) // 2, end - start, bar))
    filled = round((end - start) * min(max(choice.share, 0.0), 1.0))
    if filled:
        pygame.draw.rect(surface, AMBER if taken else BLUE, (start, y + (height - bar) // 2, filled, bar))
    number = face.render(choice.text, TEXT if taken else LABEL)
    surface.blit(number, (x + width - number.get_width(), y))


def draw_standings(
    pygame: ModuleType, surface: Surface, standings: Sequence[Standing], place: tuple[int, int], width: int
) -> None:
    """One line a driver: sign, number, name, lap and score."""
    u = unit_of(surface.get_size())
    face = font(pygame, round(18 * u))
    pad, row = round(9 * u), face.height + round(6 * u)
    height = row * (len(standings) + 1) + pad
    _veil(pygame, surface, (*place, width, height))
    sign = round(12 * u)
    names, lap, score = (place[0] + sign + 2 * pad, place[0] + width - round(62 * u), place[0] + width - pad)
    y = place[1] + pad // 2

    def right(text: str, edge: int, colour: Colour) -> None:
        image = face.render(text, colour)
        surface.blit(image, (edge - image.get_width(), y))

    right("LAP", lap, LABEL)
    right("SCORE", score, LABEL)
    for number, standing in enumerate(standings, 1):
        y += row
        if standing.followed:
            pygame.draw.rect(surface, TROUGH, (place[0], y - round(3 * u), width, row))
        box = (place[0] + pad, y + (face.height - sign) // 2, sign)
        draw_sign(pygame, surface, box, standing.colour, standing.square)
        room = lap - names - round(44 * u)
        surface.blit(face.render(face.fitted(f"{number} {standing.name}", room), TEXT), (names, y))
        right(f"{100 * standing.progress:.0f} %", lap, TEXT)
        right(f"{standing.score:.0f}", score, TEXT)


def help_height(size: tuple[int, int]) -> int:
    """px of the line of help in a picture of that size."""
    return max(20, round(26 * unit_of(size)))


def draw_help(pygame: ModuleType, surface: Surface, entries: Sequence[tuple[str, str]]) -> None:
    """The line of help along the lower edge: (key, what it does), as many as there is room for, the first first."""
    size = surface.get_size()
    height = help_height(size)
    top = size[1] - height
    surface.fill(PANEL, (0, top, size[0], height))
    face = font(pygame, max(SMALLEST_HELP, round(19 * unit_of(size))))
    gap, space = round(0.95 * face.height), round(0.3 * face.height)
    widths = [face.width(key) + space + face.width(what) for key, what in entries]
    shown, used = 0, gap
    while shown < len(entries) and used + widths[shown] <= size[0] - gap:
        used += widths[shown] + gap
        shown += 1
    x = max(gap, (size[0] - used + gap) // 2)
    middle = top + (height - face.height) // 2
    for (key, what), width in zip(entries[:shown], widths, strict=False):
        named = face.render(key, AMBER)
        surface.blit(named, (x, middle))
        surface.blit(face.render(what, TEXT), (x + named.get_width() + space, middle))
        x += width + gap


def draw_keys(pygame: ModuleType, surface: Surface, entries: Sequence[tuple[str, str]]) -> None:
    """A box in the middle with every key and what it does."""
    size = surface.get_size()
    u = unit_of(size)
    face = font(pygame, round(22 * u))
    pad, row = round(20 * u), face.height + round(7 * u)
    column = max(face.width(key) for key, _ in entries) + pad
    width = column + max(face.width(what) for _, what in entries) + 2 * pad
    height = row * len(entries) + 2 * pad - round(7 * u)
    left, top = (size[0] - width) // 2, max(0, (size[1] - height) // 2 - round(40 * u))
    _veil(pygame, surface, (left, top, width, height), 235)
    for line, (key, what) in enumerate(entries):
        surface.blit(face.render(key, AMBER), (left + pad, top + pad + line * row))
        surface.blit(face.render(what, TEXT), (left + pad + column, top + pad + line * row))


def draw_banner(pygame: ModuleType, surface: Surface, text: str, bottom: int) -> None:
    """A message just above row `bottom`."""
    u = unit_of(surface.get_size())
    face = font(pygame, round(28 * u))
    pad = round(12 * u)
    image = face.render(face.fitted(text, surface.get_width() - 4 * pad), TEXT)
    width, height = image.get_width() + 3 * pad, image.get_height() + pad
    left, top = (surface.get_width() - width) // 2, bottom - height - pad
    _veil(pygame, surface, (left, top, width, height), 225)
    surface.blit(image, (left + (width - image.get_width()) // 2, top + pad // 2))


def _veil(pygame: ModuleType, surface: Surface, box: Box, veil: int = VEIL) -> None:
    panel = pygame.Surface(box[2:], pygame.SRCALPHA, 32)
    pygame.draw.rect(panel, (*PANEL, veil), panel.get_rect(), border_radius=round(9 * unit_of(surface.get_size())))
    surface.blit(panel, box[:2])

"""The strip of instruments below a picture: speed, pedals, steering, lap, score, time, seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

Surface = Any  # pygame.Surface
Colour = tuple[int, int, int]

PANEL: Colour = (20, 22, 27)
LINE: Colour = (48, 52, 60)
TROUGH: Colour = (44, 47, 55)
TEXT: Colour = (240, 242, 245)
LABEL: Colour = (150, 156, 168)
BLUE: Colour = (92, 190, 255)
GREEN: Colour = (96, 211, 122)
RED: Colour = (255, 92, 82)
AMBER: Colour = (250, 208, 70)

FULL_SPEED = 100.0
"""u/s at the end of the speed bar"""


@dataclass(frozen=True)
class Readings:
    """What the instruments show."""

    speed: float  # u/s
    gas: float  # 0 to 1
    brake: float  # 0 to 1
    steer: float  # -1 left to 1 right, asked for
    wheel_angle: float  # -1 left to 1 right, where the front wheels are
    progress: float  # share of the tiles visited
    score: float
    seconds: float
    seed: int  # of the track; -1 unknown


def hud_height(size: tuple[int, int]) -> int:
    """px of the strip in a picture of that size."""
    return round(80 * unit_of(size))


KEPT_TEXTS = 512
FINE = 4
"""times larger than shown that letters are written"""


class Face:
    """A typeface, `pixels` high. Small letters sit on whole pixels, unevenly: they are written large and shrunk."""

    def __init__(self, pygame: ModuleType, pixels: int) -> None:
        self._pygame = pygame
        self._font = pygame.font.Font(None, FINE * pixels)
        self._kept: dict[tuple[str, Colour], Surface] = {}
        self.height = self._font.get_height() // FINE

    def width(self, text: str) -> int:
        """px."""
        return max(1, self._font.size(text)[0] // FINE)

    def render(self, text: str, colour: Colour) -> Surface:
        """The text as a surface, not to be painted on."""
        key = text, colour
        if key not in self._kept:
            if len(self._kept) >= KEPT_TEXTS:
                self._kept.clear()
            # pygame aborts the process when it is to shrink an empty surface
            large = self._font.render(text or " ", True, colour)
            self._kept[key] = self._pygame.transform.smoothscale(large, (self.width(text), self.height))
        return self._kept[key]

    def fitted(self, text: str, room: float) -> str:
        """The text, cut short with an ellipsis where it would be wider than room px."""
        if self.width(text) <= room:
            return text
        while len(text) > 1 and self.width(f"{text}…") > room:
            text = text[:-1]
        return f"{text.rstrip()}…"


@cache
def font(pygame: ModuleType, pixels: int) -> Face:
    """pygame's own typeface, so many px high; never too small to read."""
    return Face(pygame, max(9, pixels))


def draw_hud(pygame: ModuleType, surface: Surface, readings: Readings, bottom: int | None = None) -> None:
    """Paint the strip, its lower edge at row `bottom` of the surface; None = at the surface's own."""
    size = surface.get_size()
    unit, height = unit_of(size), hud_height(size)
    bottom = size[1] if bottom is None else bottom
    top = bottom - height
    pygame.draw.rect(surface, PANEL, (0, top, size[0], height))
    pygame.draw.rect(surface, LINE, (0, top, size[0], max(1, round(2 * unit))))
    brush = _Brush(pygame, surface, unit, top)
    left = (size[0] - 960 * unit) / 2  # the strip is laid out for 960 px and centred
    r = readings
    brush.number(left + 28 * unit, "SPEED", f"{r.speed:.0f}", 48, "u/s")
    brush.bar(left + 118 * unit, 96, 43, r.speed / FULL_SPEED, BLUE)
    brush.pedal(left + 252 * unit, "GAS", 18, r.gas, GREEN)
    brush.pedal(left + 252 * unit, "BRAKE", 46, r.brake, RED)
    brush.dial(left + 416 * unit, 140, r.wheel_angle, r.steer)
    brush.number(left + 594 * unit, "LAP", f"{100 * r.progress:.0f}", 60, "%")
    brush.number(left + 676 * unit, "SCORE", f"{r.score:.0f}", 70)
    brush.number(left + 764 * unit, "TIME", f"{r.seconds:.1f}", 60, "s")
    brush.number(left + 852 * unit, "TRACK", str(r.seed) if r.seed >= 0 else "–", 96)
    pygame.draw.rect(surface, TROUGH, (0, bottom - round(5 * unit), size[0], round(5 * unit)))
    done = round(size[0] * min(max(r.progress, 0.0), 1.0))
    pygame.draw.rect(surface, BLUE, (0, bottom - round(5 * unit), done, round(5 * unit)))


def draw_caption(pygame: ModuleType, surface: Surface, text: str, room: int | None = None) -> int:
    """A short text in the upper left corner, at most `room` px wide; returns the row below it."""
    unit = unit_of(surface.get_size())
    pad = round(9 * unit)
    face = font(pygame, round(24 * unit))
    room = surface.get_width() if room is None else room
    image = face.render(face.fitted(text, room - 3 * pad), TEXT)
    size = (image.get_width() + 2 * pad, image.get_height() + round(1.4 * pad))
    panel = pygame.Surface(size, pygame.SRCALPHA, 32)
    pygame.draw.rect(panel, (*PANEL, 190), panel.get_rect(), border_radius=pad)
    panel.blit(image, (pad, round(0.7 * pad)))
    surface.blit(panel, (pad, pad))
    return int(pad + size[1])


def unit_of(size: tuple[int, int]) -> float:
    """px per layout unit, in a picture of that size."""
    return max(0.28, min(size[0] / 960, size[1] / 540))


@dataclass(frozen=True)
class _Brush:
    pygame: ModuleType
    surface: Surface
    unit: float  # px per layout unit
    top: int  # px, upper edge of the strip

    def _text(self, x: float, middle: float, text: str, pixels: float, colour: Colour) -> float:
        """Write from x on, vertically around `middle` layout units below the strip's edge; returns the right end."""
        image = font(self.pygame, round(pixels * self.unit)).render(text, colour)
        self.surface.blit(image, (round(x), round(self.top + middle * self.unit - image.get_height() / 2)))
        return x + image.get_width()

    def number(self, x: float, label: str, value: str, room: float, suffix: str = "") -> None:
        """A label above a large number, made smaller until it fits into `room` layout units."""
        self._text(x, 20, label, 19, LABEL)
        pixels = 38
        while pixels > 16 and font(self.pygame, round(pixels * self.unit)).width(value) > room * self.unit:
            pixels -= 2
        end = self._text(x, 48, value, pixels, TEXT)
        self._text(end + 5 * self.unit, 52, suffix, 19, LABEL)

    def _trough(self, x: float, y: float, width: float, height: float) -> tuple[int, int, int, int]:
        u = self.unit
        box = (round(x), round(self.top + y * u), round(width * u), max(3, round(height * u)))
        self.pygame.draw.rect(self.surface, TROUGH, box, border_radius=box[3] // 2)
        return box

    def bar(self, x: float, width: float, y: float, value: float, colour: Colour) -> None:
        """A level from 0 to 1, y layout units below the strip's edge."""
        box = self._trough(x, y, width, 10)
        filled = round(box[2] * min(max(value, 0.0), 1.0))
        if filled > 0:
            self.pygame.draw.rect(self.surface, colour, (box[0], box[1], filled, box[3]), border_radius=box[3] // 2)

    def pedal(self, x: float, label: str, y: float, value: float, colour: Colour) -> None:
        end = self._text(x, y + 5, label, 19, LABEL)
        start = max(x + 60 * self.unit, end + 5 * self.unit)
        self.bar(start, (x + 132 * self.unit - start) / self.unit, y, value, colour)

    def dial(self, x: float, width: float, angle: float, asked: float) -> None:
        """Steering: a bar from the middle to where the wheels are, a mark where they were asked to be."""
        self._text(x, 20, "STEERING", 19, LABEL)
        box = self._trough(x, 43, width, 10)
        middle, half = box[0] + box[2] / 2, box[2] / 2
        end = middle + half * angle
        inner = (round(min(middle, end)), box[1], max(1, round(abs(end - middle))), box[3])
        self.pygame.draw.rect(self.surface, AMBER, inner)
        tick = max(2, round(3 * self.unit))
        for at, thick, colour in ((middle, max(1, tick // 2), LABEL), (middle + half * asked, tick, TEXT)):
            mark = (round(at - thick / 2), box[1] - tick, thick, box[3] + 2 * tick)
            self.pygame.draw.rect(self.surface, colour, mark)

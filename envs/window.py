"""A window on the screen: shows pictures, keeps time, and tells which keys were pressed."""

from __future__ import annotations

import os
import sys
from typing import Any

from .errors import UserError
from .viewer import load_pygame

Surface = Any  # pygame.Surface

UNSEEN = ("offscreen", "dummy")
"""SDL's drivers that draw where nobody looks; it falls back to them without a word"""


class Window:
    """One window, opened at once.

    Args:
        size: px, (width, height).
        title: text of the title bar.
        must_be_seen: without a display, refuse; otherwise draw where nobody looks, as Gymnasium's windows do.

    Raises:
        UserError: there is no display to open it on.
    """

    def __init__(self, size: tuple[int, int], title: str, must_be_seen: bool = True) -> None:
        pygame = load_pygame()
        if must_be_seen:
            require_display()
        try:
            pygame.display.init()
            unseen = pygame.display.get_driver() in UNSEEN and not os.environ.get("SDL_VIDEODRIVER")
            if must_be_seen and unseen:
                raise pygame.error(f"SDL found only the {pygame.display.get_driver()} driver")
            self._screen = pygame.display.set_mode(size)
        except pygame.error as error:
            pygame.display.quit()
            raise _no_display(str(error)) from error
        pygame.display.set_caption(title)
        self._pygame = pygame
        self._clock = pygame.time.Clock()
        self.is_open = True
        self.held: set[str] = set()
        """names of the keys that are down, as of the last call of pressed()"""

    def show(self, surface: Surface, fps: float) -> None:
        """Put a picture of the window's size on the screen, no sooner than 1 / fps seconds after the last one.

        Of fps = 0 at once.
        """
        self._screen.blit(surface, (0, 0))
        self._pygame.display.flip()
        self._clock.tick(fps)

    def pressed(self) -> list[str]:
        """Names of the keys pressed since the last call, as pygame calls them ("space", "n", "[+]", …).

        Closing the window, and nothing else, makes is_open False.
        """
        pressed = []
        for event in self._pygame.event.get():
            if event.type == self._pygame.QUIT:
                self.is_open = False
            elif event.type == self._pygame.WINDOWFOCUSLOST:
                self.held.clear()  # their going up will not be told
            elif event.type == self._pygame.KEYUP:
                self.held.discard(self._pygame.key.name(event.key))
            elif event.type == self._pygame.KEYDOWN:
                self.held.add(self._pygame.key.name(event.key))
                # the character typed, where there is one: "+" is "+" on every keyboard
                typed = event.unicode.strip() if event.unicode.isprintable() else ""
                # "N" is "n": with shift or caps lock the keys mean the same
                pressed.append((typed or self._pygame.key.name(event.key)).lower())
        return pressed

    def close(self) -> None:
        """Remove the window; closing twice is fine."""
        if self._pygame.display.get_init():
            self._pygame.display.quit()
        self.is_open = False


def require_display() -> None:
    """Refuse where a window cannot be seen, before SDL tries: its libraries write their own complaints to stderr.

    Raises:
        UserError: there is no display.
    """
    named = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))
    if sys.platform.startswith("linux") and not named:
        raise _no_display("neither DISPLAY nor WAYLAND_DISPLAY is set")


def _no_display(reason: str) -> UserError:
    return UserError(
        "no display to open a window on",
        got=reason,
        fix="run it on a desktop, or make a film: drivetrain record WHO --out drive.mp4",
    )

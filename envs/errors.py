"""Errors a user can mend: what is wrong, what was given, what is allowed, how to fix it."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

__all__ = ["UserError", "nearest"]


class UserError(ValueError):
    """Wrong input from the user. The command line prints it as one line and exits with ``code``.

    Args:
        what: what is wrong, without a full stop.
        got: the value that was given.
        allowed: what would have been accepted: a text, or an iterable of choices.
        fix: what to do about it.
        code: exit code of the command line (2 = bad input).
    """

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: str | Iterable[object] | None = None,
        fix: str | None = None,
        code: int = 2,
    ) -> None:
        self.what = what
        self.got = got
        self.allowed = allowed
        self.fix = fix
        self.code = code
        super().__init__(self._line())

    def _line(self) -> str:
        parts = [self.what]
        if self.got is not None:
            # one line whatever was given: errors are read by people and by scripts that take the first line
            parts.append(f"got {_short(self.got)}")
        if self.allowed is not None:
            parts.append(f"allowed {self.allowed if isinstance(self.allowed, str) else _listed(self.allowed)}")
        if self.fix is not None:
            parts.append(self.fix)
        return "; ".join(part.replace("\n", " ") for part in parts)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when nothing is similar."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def _short(value: object, limit: int = 120) -> str:
    # a list from a file may hold itself a billion times over (YAML aliases): never write one out whole
    text = value if isinstance(value, str) else reprlib.repr(value) if isinstance(value, (list, dict)) else str(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _listed(choices: Iterable[object]) -> str:
    return ", ".join(str(choice) for choice in choices)

"""What a sweep searches: fields of a config, each with a range or with choices.

A range comes from the field itself where that is enough (its default, and the limits its model states), from the table
`TUNED` where it is not, and from the user before both. It is written ``LOW:HIGH``, ``LOW:HIGH:log`` or ``A/B/C``; the
sizes of a list are joined by an ``x``, as in ``64x64/256x256``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from drivetrain.envs.errors import UserError, nearest
from drivetrain.options import choices_of, flag, kind_of

__all__ = ["TUNED", "Dimension", "as_choice", "as_flags", "build_space", "dashed", "moved_inside", "used_value"]

Value = bool | int | float | str

TUNED: dict[str, dict[str, str]] = {
    # what is tuned where nothing else is asked for; "" = the range follows from the field and its default
    "ppo": {
        "learning_rate": "",
        "num_envs": "",
        "num_steps": "",
        "update_epochs": "1:8",
        "num_minibatches": "2/4/8/16",
        "gamma": "0.95:0.999",
        "gae_lambda": "0.8:1",
        "clip_coef": "0.1:0.4",
        "ent_coef": "0:0.02",
        "desired_kl": "0.003:0.05:log",
    },
    "dqn": {
        "learning_rate": "",
        "batch_size": "",
        "replay_ratio": "1:16:log",
        "target_every": "",
        "gamma": "0.95:0.999",
        "n_step": "1:5",
        "eps_fraction": "0.05:0.5",
        "eps_end": "0.005:0.1:log",
    },
}
FEW = 16  # a whole number below this is searched one by one, above by doubling
DECADE, OCTAVES = 10.0, (0.25, 0.5, 1, 2, 4)  # how far around the default a range reaches by itself
DIGITS = 5  # significant digits of what is tried: a command must be fit to be typed


class Dimension(BaseModel):
    """One tuned field: from ``low`` to ``high``, or one of ``choices``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["int", "float", "choice"]
    low: int | float = 0
    high: int | float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()

    def __str__(self) -> str:
        if self.kind == "choice":
            return "/".join(_written(choice).replace(",", "x") for choice in self.choices)
        return f"{self.low:g}:{self.high:g}" + (":log" if self.log else "")


def build_space(
    algo: str,
    fields: Mapping[str, FieldInfo],
    defaults: Mapping[str, Any],
    tune: Iterable[str],
    ranges: Mapping[str, str],
    fixed: Iterable[str],
) -> dict[str, Dimension]:
    """The fields to tune, in their order, with what each may be.

    Args:
        algo: whose table holds what is tuned by default.
        fields: of the config: all that may be tuned.
        defaults: value of every field where a trial says nothing.
        tune: names of the fields, with dashes or underscores; empty = the default set, less what is fixed, and what
            has a range.
        ranges: name -> range, as written above.
        fixed: fields that the user has set for all trials.

    Raises:
        UserError: no such field, no such range, a range the field does not allow, or a field tuned and fixed.
    """
    given = {_known(name, fields): text for name, text in ranges.items()}
    asked = [_known(name, fields) for name in tune]
    held = set(fixed)
    names = asked or [name for name in TUNED[algo] if name not in held and name in fields]
    names += [name for name in given if name not in names]
    for name in names:
        if name in held:
            fix = f"leave out {flag(name)}, or take it out of --tune and --range"
            raise UserError(f"{flag(name)} is fixed and tuned", got=name, fix=fix)
    if not names:
        raise UserError("nothing is left to tune", fix="name fields with --tune, or leave out some options")
    space = {}
    for name in names:
        info, default = fields[name], defaults[name]
        if name in given:
            space[name] = _from_text(name, given[name], info)
        elif TUNED[algo].get(name):
            space[name] = _with(_from_text(name, TUNED[algo][name], info), default)
        else:
            space[name] = _with(_derived(name, info, default), default)
    return space


def used_value(dimension: Dimension, value: Value) -> Value:
    """What a trial uses of a value drawn: floats are rounded, and stay inside."""
    if dimension.kind != "float":
        return value
    rounded = float(f"{float(value):.{DIGITS}g}")
    return min(max(rounded, float(dimension.low)), float(dimension.high))


def moved_inside(dimension: Dimension, value: object) -> Value:
    """The value of a dimension that is nearest to ``value``; its first where that is no number."""
    if dimension.kind == "choice":
        written = as_choice(value)
        if written in dimension.choices:
            return dimension.choices[dimension.choices.index(written)]
        numbers = [c for c in dimension.choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not numbers:
            return dimension.choices[0]
        near = float(value)
        return min(numbers, key=lambda choice: abs(choice - near))
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return dimension.low
    return min(max(value, dimension.low), dimension.high)


def as_flags(values: Mapping[str, object]) -> list[str]:
    """Options as words of a command line."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else f"--no-{dashed(name)}")
        else:
            words += [flag(name), _written(value)]
    return words


def dashed(name: str) -> str:
    """num_envs -> num-envs."""
    return name.replace("_", "-")


def _written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        from drivetrain.output import dumps

        return dumps(value)
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def as_choice(value: object) -> object:
    """A value as it stands among choices: lists are kept as text."""
    return _written(value) if isinstance(value, (list, tuple)) else value


def _known(name: str, fields: Mapping[str, FieldInfo]) -> str:
    key = name.strip().removeprefix("--").replace("-", "_")
    if key in fields:
        return key
    near = nearest(key, fields)
    fix = f"did you mean {dashed(near)}?" if near else "see `drivetrain sweep ALGO ENV --help`"
    raise UserError("there is no such option to tune", got=name, fix=fix)


def _from_text(name: str, text: str, info: FieldInfo) -> Dimension:
    """A range as written by the user or in the table."""
    allowed = "LOW:HIGH, LOW:HIGH:log or A/B/C"
    where = f"the range of {dashed(name)}"
    kind, _ = kind_of(info)
    parts = str(text).split(":")
    if len(parts) == 1:
        choices = [part.strip() for part in str(text).split("/") if part.strip()]
        if len(choices) < 2:
            raise UserError(f"{where} leaves no choice", got=text, allowed=allowed)
        values = tuple(_value(name, part, info) for part in choices)
        if len(set(values)) < len(values):
            raise UserError(f"{where} holds a choice twice", got=text)
        return Dimension(kind="choice", choices=values)
    if kind not in ("int", "float"):
        raise UserError(f"{where} has no low and high", got=text, allowed=_choices_written(info) or "A/B/C")
    if len(parts) > 3 or (len(parts) == 3 and parts[2] != "log"):
        raise UserError(f"{where} is not understood", got=text, allowed=allowed)
    low, high = (_number(name, part, info) for part in parts[:2])
    log = len(parts) == 3
    if not low < high:
        raise UserError(f"{where} must rise", got=text, allowed=allowed)
    if log and low <= 0:
        raise UserError(f"{where} cannot be logarithmic from {low:g} on", got=text, fix="begin it above 0")
    return Dimension(kind="int" if kind == "int" else "float", low=low, high=high, log=log)


def _value(name: str, text: str, info: FieldInfo) -> Value:
    kind, _ = kind_of(info)
    if kind in ("int", "float"):
        return _number(name, text, info)
    if kind == "bool":
        if text not in ("true", "false"):
            raise UserError(f"{flag(name)} is a switch", got=text, allowed="true/false")
        return text == "true"
    if kind.startswith("list"):
        return text.replace("x", ",")
    known = choices_of(info)
    if known is not None and text not in known:
        near = nearest(text, known)
        fix = f"did you mean {near}?" if near else None
        raise UserError(f"{flag(name)} does not know this value", got=text, allowed=known, fix=fix)
    if kind == "choice":
        return text
    raise UserError(f"{flag(name)} cannot be tuned", got=text, fix="fix it on the command line instead")


def _number(name: str, text: str, info: FieldInfo) -> int | float:
    """A number that the field allows."""
    whole = kind_of(info)[0] == "int"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and not number.is_integer()):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"the range of {dashed(name)} needs {kind}", got=text)
    low, high, open_low, open_high = _limits(info)
    if number < low or number > high or (open_low and number == low) or (open_high and number == high):
        begin, end = "above" if open_low else "from", "below" if open_high else "to"
        allowed = " ".join(
            [f"{begin} {low:g}" if low > -math.inf else "", f"{end} {high:g}" if high < math.inf else ""]
        ).strip()
        raise UserError(f"{flag(name)} cannot be this", got=text, allowed=allowed)
    return int(number) if whole else number


def _limits(info: FieldInfo) -> tuple[float, float, bool, bool]:
    """Lowest and highest value of a number, and whether each is itself left out."""
    low, high, open_low, open_high = -math.inf, math.inf, False, False
    for part in info.metadata:
        if (ge := getattr(part, "ge", None)) is not None:
            low = float(ge)
        if (gt := getattr(part, "gt", None)) is not None:
            low, open_low = float(gt), True
        if (le := getattr(part, "le", None)) is not None:
            high = float(le)
        if (lt := getattr(part, "lt", None)) is not None:
            high, open_high = float(lt), True
    return low, high, open_low, open_high


def _derived(name: str, info: FieldInfo, default: Any) -> Dimension:
    """A range from the field alone: its default, its limits, its choices."""
    kind, _ = kind_of(info)
    if kind == "bool":
        return Dimension(kind="choice", choices=(True, False))
    known = choices_of(info)
    if known is not None:
        return Dimension(kind="choice", choices=known)
    low, high, open_low, open_high = _limits(info)
    number = isinstance(default, (int, float)) and not isinstance(default, bool) and default > 0
    if kind == "int" and number:
        if default < FEW:
            return Dimension(kind="int", low=max(int(low), 1), high=int(min(high, 3 * default)))
        sizes = dict.fromkeys(int(default * factor) for factor in OCTAVES)
        return Dimension(kind="choice", choices=tuple(size for size in sizes if max(low, 1) <= size <= high))
    if kind == "float" and low > -math.inf and high < math.inf and not open_low and not open_high:
        return Dimension(kind="float", low=low, high=high)
    if kind == "float" and number:
        return Dimension(kind="float", low=default / DECADE, high=min(high, default * DECADE), log=True)
    fix = f"say where to search: --range {dashed(name)}=LOW:HIGH or A/B"
    raise UserError(f"no range follows from {flag(name)}", got=f"default {_written(default)}", fix=fix)


def _with(dimension: Dimension, default: Any) -> Dimension:
    """A range that holds the default, for what the user did not lay down."""
    if dimension.kind == "choice":
        value = as_choice(default)
        if value in dimension.choices or not isinstance(value, (bool, int, float, str)):
            return dimension
        return dimension.model_copy(update={"choices": (*dimension.choices, value)})
    if not isinstance(default, (int, float)) or isinstance(default, bool):
        return dimension
    if dimension.log and default <= 0:
        return dimension
    return dimension.model_copy(update={"low": min(dimension.low, default), "high": max(dimension.high, default)})


def _choices_written(info: FieldInfo) -> str | None:
    known = choices_of(info)
    return "/".join(known) if known else None

"""The help page of a verb: every option with its meaning, unit and default, made from the model."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drivetrain.options import Spec, choices_of, flag, kind_of

__all__ = ["page"]

COLUMN = 30  # where the explanations begin


def page(spec: Spec[Any], asked: Mapping[str, object] | None = None) -> str:
    """The text of ``drivetrain VERB --help``; asked = flags beside it, which may choose another preset."""
    preset = spec.preset(asked or {})
    lines = [f"usage: {spec.usage} [options]", "", *_wrapped(spec.summary, "")]
    for title, names in _groups(spec.model).items():
        entries = [_entry(preset, name, spec.model.model_fields[name]) for name in names]
        lines += ["", f"{title}:", *[line for entry in entries for line in entry]]
    lines += ["", "General:"]
    if spec.config:
        lines += _option("--config FILE", "TOML or YAML file with any of these options, in snake_case; flags win")
    lines += _option("--json", "the last line of stdout is one JSON object, everything else goes to stderr")
    lines += _option("--debug", "show the traceback of an error")
    return "\n".join(lines)


def _groups(model: type[BaseModel]) -> dict[str, list[str]]:
    """Fields by the class that declares them, titled by the first line of its docstring."""
    groups: dict[str, list[str]] = {}
    seen: set[str] = set()
    for cls in model.__mro__:
        own = [name for name in inspect.get_annotations(cls) if name in model.model_fields]
        names = [name for name in own if name not in seen and not _hidden(model.model_fields[name])]
        seen.update(own)
        if names:
            title = (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")
            groups.setdefault(title, []).extend(names)
    return groups


def _hidden(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("hidden"))


def _entry(preset: Mapping[str, object], name: str, info: FieldInfo) -> list[str]:
    kind, _ = kind_of(info)
    default = preset.get(name, info.get_default(call_default_factory=True))
    choices = choices_of(info)
    if kind == "bool":
        head = f"{flag(name)} / --no-{name.replace('_', '-')}"
    elif choices:
        head = f"{flag(name)} {'|'.join(choices)}"
    else:
        letters = {"map": "NAME=X,…", "int": "N", "float": "X", "list:int": "N,N", "list:float": "X,X"}
        head = f"{flag(name)} {letters.get(kind, 'TEXT')}"
    required = info.is_required() and name not in preset
    meaning = (info.description or "").rstrip(".")
    return _option(head, f"{meaning} ({'required' if required else 'default ' + _shown(default)})")


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ",".join(f"{name}={item}" for name, item in value.items()) or "empty"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(head: str, meaning: str) -> list[str]:
    body = _wrapped(meaning, " " * COLUMN)
    start = f"  {head}"
    if len(start) + 2 > COLUMN:
        return [start, *body]
    return [f"{start:<{COLUMN}}{body[0].strip()}", *body[1:]]


def _wrapped(text: str, indent: str) -> list[str]:
    width = max(60, min(120, shutil.get_terminal_size((100, 24)).columns))
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False) or [""]

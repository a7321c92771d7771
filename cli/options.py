"""From a frozen pydantic model to flat command-line flags, a config file and a help page.

Every field of a model is one flag: ``num_envs`` is ``--num-envs`` on the command line and ``num_envs`` in a file.
Order of precedence: defaults, preset, file, flags. Wrong input is a ``UserError`` that names the nearest right one.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from drivetrain.envs.errors import UserError, nearest

__all__ = ["Options", "Parsed", "Spec", "choices_of", "flag", "from_record", "kind_of", "parse", "read_config"]

MODEL = TypeVar("MODEL", bound=BaseModel)
LARGEST_CONFIG = 1_000_000  # bytes; a config is a page of text


class Options(BaseModel):
    """Base of every option model: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Spec(Generic[MODEL]):
    """What one command line may hold."""

    model: type[MODEL]
    usage: str  # "drivetrain train ppo ENV"
    summary: str
    positionals: tuple[str, ...] = ()  # names of the words that must stand there
    many: str | None = None  # name of the words of which there may be any number
    preset: Callable[[Mapping[str, object]], dict[str, Any]] = lambda _asked: {}  # from what was asked for
    config: bool = False  # takes --config FILE
    file_extras: tuple[str, ...] = ()  # keys a file may hold beside the fields; handed back, not validated


@dataclass(frozen=True)
class Parsed(Generic[MODEL]):
    """Options as resolved, and where each value came from: default, preset, file or flag."""

    options: MODEL
    words: tuple[str, ...]
    source: Mapping[str, str]
    extras: Mapping[str, object]


def flag(name: str) -> str:
    """``num_envs`` -> ``--num-envs``."""
    return "--" + name.replace("_", "-")


def parse(spec: Spec[MODEL], argv: Sequence[str]) -> Parsed[MODEL]:
    """Read a command line.

    Raises:
        UserError: anything wrong with it (code 2).
        SystemExit: after ``--help`` was printed (code 0).
    """
    if any(arg in ("--help", "-h") for arg in argv):
        from drivetrain.help import page

        print(page(spec, _asked_beside_help(spec, argv)))
        raise SystemExit(0)
    words, flags, config_file = _split(spec, argv)
    values: dict[str, object] = {}
    source: dict[str, str] = {}
    extras: dict[str, object] = {}
    if config_file is not None:
        for key, value in read_config(Path(config_file)).items():
            if key in spec.file_extras:
                extras[key] = value
                continue
            _check_key(spec, key, config_file)
            values[key], source[key] = value, "file"
    values |= flags
    source |= dict.fromkeys(flags, "flag")
    preset = spec.preset(values)
    values = preset | values
    source = dict.fromkeys(spec.model.model_fields, "default") | dict.fromkeys(preset, "preset") | source
    return Parsed(_validate(spec, values, source, config_file), words, source, extras)


def from_record(spec: Spec[MODEL], record: Mapping[str, object], file: Path) -> MODEL:
    """Options from a file that a run left behind, defaults for what it does not hold.

    Raises:
        UserError: unknown key or unsuitable value (code 2).
    """
    values = {key: value for key, value in record.items() if key not in spec.file_extras}
    for key in values:
        _check_key(spec, key, str(file))
    return _validate(spec, values, dict.fromkeys(values, "file"), str(file))


def _asked_beside_help(spec: Spec[MODEL], argv: Sequence[str]) -> dict[str, object]:
    """The flags of a command line that asks for help; none if they make no sense."""
    try:
        _, flags, _ = _split(replace(spec, positionals=()), [arg for arg in argv if arg not in ("--help", "-h")])
    except UserError:
        return {}
    return flags


def _split(spec: Spec[MODEL], argv: Sequence[str]) -> tuple[tuple[str, ...], dict[str, object], str | None]:
    """Cut a command line into words, flags and the config file."""
    words: list[str] = []
    flags: dict[str, object] = {}
    config_file: str | None = None
    rest = list(argv)
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            if token.startswith("-") and not _is_number(token):
                raise UserError("unknown option", got=token, fix=f"options begin with two dashes, see {_see(spec)}")
            words.append(token)
            continue
        name, equals, given = token[2:].partition("=")
        if name == "config" and spec.config:
            config_file = given if equals else _value_of("--config", rest)
            continue
        key, off = _field_of(spec, name, token)
        if kind_of(spec.model.model_fields[key])[0] == "bool":
            flags[key] = _as_bool(token, given) != off if equals else not off
        else:
            flags[key] = given if equals else _value_of(f"--{name}", rest)
    _check_words(spec, words)
    return tuple(words), flags, config_file


def _field_of(spec: Spec[MODEL], name: str, token: str) -> tuple[str, bool]:
    """The field behind a flag, and whether it was written ``--no-…``."""
    fields = spec.model.model_fields
    key = name.replace("-", "_")
    if key in fields and "_" not in name:
        return key, False
    positive = key.removeprefix("no_")
    if positive != key and positive in fields and kind_of(fields[positive])[0] == "bool":
        return positive, True
    known = [flag(field_name) for field_name in fields] + (["--config"] if spec.config else [])
    near = flag(key) if key in fields else nearest(f"--{name}", known)
    fix = f"did you mean {near}? See {_see(spec)}" if near else f"see {_see(spec)}"
    raise UserError("unknown option", got=token.partition("=")[0], fix=fix)


def _check_words(spec: Spec[MODEL], words: Sequence[str]) -> None:
    if len(words) < len(spec.positionals):
        missing = " ".join(name.upper() for name in spec.positionals[len(words) :])
        raise UserError(f"{missing} is missing", got=" ".join(words) or "nothing", fix=f"usage: {spec.usage} [options]")
    if len(words) > len(spec.positionals) and spec.many is None:
        extra = words[len(spec.positionals)]
        raise UserError("one word too many", got=extra, fix=f"usage: {spec.usage} [options]; options begin with --")


def _check_key(spec: Spec[MODEL], key: str, config_file: str) -> None:
    if key in spec.model.model_fields:
        return
    near = nearest(key, [*spec.model.model_fields, *spec.file_extras])
    fix = f"did you mean {near}? See {_see(spec)}" if near else f"see {_see(spec)}"
    raise UserError(f"unknown key in {config_file}", got=key, fix=fix)


def _value_of(name: str, rest: list[str]) -> str:
    if not rest or (rest[0].startswith("--") and not _is_number(rest[0])):
        raise UserError(f"{name} needs a value", got=rest[0] if rest else "nothing", fix=f"write {name} VALUE")
    return rest.pop(0)


def _validate(
    spec: Spec[MODEL], values: dict[str, object], source: Mapping[str, str], config_file: str | None
) -> MODEL:
    converted: dict[str, object] = {}
    for key, value in values.items():
        where = f"{key} in {config_file}" if source[key] == "file" else flag(key)
        converted[key] = _convert(spec.model.model_fields[key], value, where)
    try:
        return spec.model.model_validate(converted)
    except ValidationError as error:
        raise _as_user_error(spec, error, source, config_file) from None


def _convert(info: FieldInfo, value: object, where: str) -> object:
    """Text to the type of the field; anything else is left to pydantic."""
    kind, optional = kind_of(info)
    if isinstance(value, bool) and kind != "bool":
        raise UserError(f"{where} is no switch", got=str(value).lower())
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} must be a finite number", got=value)
    if isinstance(value, (list, tuple)) and kind.startswith("list"):
        return tuple(_convert_text(kind[5:], str(item), where) for item in value)
    if not isinstance(value, str):
        return value
    if value == "none" and optional and value not in (choices_of(info) or ()):
        return None
    if kind == "map":
        return _as_map(value, where)
    if kind.startswith("list"):
        parts = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(_convert_text(kind[5:], part, where) for part in parts)
    if kind == "choice":
        return _choice(info, value, where)
    return _convert_text(kind, value, where)


def _convert_text(kind: str, text: str, where: str) -> object:
    if kind == "int":
        return _as_int(text, where)
    if kind == "float":
        try:
            number = float(text)
        except ValueError:
            raise UserError(f"{where} must be a number", got=text) from None
        if not math.isfinite(number):
            raise UserError(f"{where} must be a finite number", got=text)
        return number
    return text


def _as_map(text: str, where: str) -> dict[str, Any]:
    """`{"a": 1}`, or the same as a=1,b=text."""
    fix = f"write {where} a=1,b=text, or a JSON object in quotes"
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError):
            raise UserError(f"{where} is no JSON object", got=text, fix=fix) from None
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise UserError(f"{where} holds no NAME=VALUE", got=text, fix=fix)
    return {name.strip(): _json_or_text(value.strip()) for name, _, value in pairs}


def _json_or_text(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _as_int(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"{where} must be a whole number", got=text, allowed="5000, 5_000, 5e3 …") from None
    if not number.is_integer():
        raise UserError(f"{where} must be a whole number", got=text, allowed="5000, 5_000, 5e3 …")
    return int(number)


def _as_bool(token: str, text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    name = token.partition("=")[0]
    raise UserError(f"{name} is a switch", got=text, allowed=f"{name}, {name.replace('--', '--no-', 1)}")


def _choice(info: FieldInfo, value: str, where: str) -> object:
    choices = choices_of(info) or ()
    if value in choices:
        return _literals(info)[choices.index(value)]
    near = nearest(value, choices)
    raise UserError(
        f"{where} does not know this value", got=value, allowed=choices, fix=f"did you mean {near}?" if near else None
    )


def _as_user_error(
    spec: Spec[MODEL], error: ValidationError, source: Mapping[str, str], config_file: str | None
) -> UserError:
    """The first complaint of pydantic in our words."""
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return UserError(message, fix=f"see {_see(spec)}")
    key = str(first["loc"][0])
    where = f"{key} in {config_file}" if source.get(key) == "file" else flag(key)
    return UserError(f"{where}: {message[:1].lower()}{message[1:]}", got=first["input"], fix=f"see {_see(spec)}")


def read_config(path: Path) -> dict[str, Any]:
    """A flat mapping from a TOML, YAML or JSON file.

    Raises:
        UserError: the file cannot be read, is not such a file, or is not a flat mapping.
    """
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise UserError("the config file is too large", got=f"{path.stat().st_size} bytes", allowed="up to 1 MB")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"cannot read the config file {path}", got=reason, allowed="a TOML or YAML file") from None
    values = _load_text(path, text)
    if values is None:  # an empty YAML file
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path} is no list of settings", got=type(values).__name__, allowed="name = value")
    return values


def _load_text(path: Path, text: str) -> object:
    try:
        if path.suffix == ".toml":
            import tomllib

            return tomllib.loads(text)
        if path.suffix in (".yaml", ".yml", ".json"):
            import yaml

            return yaml.safe_load(text)
    except (ValueError, RecursionError, yaml_error()) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is not well formed", got=reason, allowed="TOML, YAML or JSON") from None
    raise UserError("unknown kind of config file", got=path.name, allowed=".toml, .yaml, .yml, .json")


def yaml_error() -> type[Exception]:
    """PyYAML's exception class (imported late: most commands read no file)."""
    import yaml

    return yaml.YAMLError


def kind_of(info: FieldInfo) -> tuple[str, bool]:
    """What a field holds (bool, int, float, str, choice, list:int …) and whether it may be none."""
    annotation = info.annotation
    optional = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(annotation) if part is not type(None)]
        optional = len(inner) < len(typing.get_args(annotation))
        annotation = inner[0] if inner else str
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return "choice", optional
    if origin in (tuple, list):
        element = typing.get_args(annotation)[0]
        return f"list:{element.__name__}", optional
    if origin is dict:
        return "map", optional
    names = {bool: "bool", int: "int", float: "float"}
    return names.get(typing.cast(type, annotation), "str"), optional


def choices_of(info: FieldInfo) -> tuple[str, ...] | None:
    """How the values of a choice are written; None if a field is no choice."""
    return tuple(str(choice) for choice in _literals(info)) or None


def _literals(info: FieldInfo) -> tuple[object, ...]:
    for part in (info.annotation, *typing.get_args(info.annotation)):
        if typing.get_origin(part) is Literal:
            return typing.get_args(part)
    return ()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _see(spec: Spec[MODEL]) -> str:
    return f"`{' '.join(word for word in spec.usage.split() if word.islower())} --help`"

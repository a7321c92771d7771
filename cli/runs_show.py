"""``drivetrain runs show RUN``: everything about one run on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, flag, parse
from drivetrain.output import Result, console
from drivetrain.rundir import find_run
from drivetrain.runs_list import age_of, score_of, styled
from drivetrain.runs_rows import bytes_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["main"]

FEW = 8  # rows of a long table, the newest


class ShowOptions(Options):
    """Options"""

    all: bool = Field(False, description="every setting, every validation and every package, not only what matters")


SPEC = Spec(
    ShowOptions,
    "drivetrain runs show RUN",
    "Everything about one run: how it stands, what was asked for, from which code, its checkpoints (each is read and "
    "checked), its validations, films and pictures, what wandb has of it, and what to do next.",
    positionals=("run",),
)


def main(argv: list[str]) -> Result:
    """Show a run.

    Raises:
        UserError: no such run (2).
    """
    parsed = parse(SPEC, argv)
    from drivetrain.runs_facts import run_facts

    facts = run_facts(find_run(parsed.words[0]))
    if not facts["config"]:
        path = f"{facts['path']}/config.json"
        raise UserError(f"{path} is damaged", got="no settings in it", fix="restore it from a copy")
    out = console()
    for part in PARTS:
        part(out, facts, parsed.options.all)
    changed = {name: {"value": value, "usual": usual} for name, (value, usual) in facts["changed"].items()}
    return Result(facts | {"changed": changed})


def _head(out: Console, facts: Mapping[str, Any], _all: bool) -> None:
    result = facts["result"]
    total, steps, seconds = facts["total_steps"], facts["steps"], facts["seconds"]
    score = f"best {score_of(facts['best'])}, last {score_of(facts['score'])}"
    who = f", {facts['trained_by']}" if facts["trained_by"] else ""
    share = f" of {total:,}" if total else ""
    rows = {
        "status": styled(facts["status"]).append(f"{who}, written {age_of(facts['age_seconds'])} ago", ""),
        "task": " ".join(str(facts[name]) for name in ("algo", "env", "obs", "actions") if facts[name]),
        "score": score if facts["best"] is not None else "none yet",
        "steps": f"{steps:,}{share}" + (f", frames {result['frames']:,}" if result.get("frames") else ""),
        "time": _time(result, seconds, steps),
        "size": f"{bytes_of(facts['size_bytes'])} in {facts['path']}",
        "group": facts["group"],
        "wandb": _wandb(facts),
    }
    _section(out, facts["run"], rows)


def _time(result: Mapping[str, Any], seconds: float | None, steps: int) -> str | None:
    if not seconds:
        return None
    words = [f"training {seconds:,.1f} s", f"{steps / seconds:,.0f} steps/s"]
    for name, what in (("eval_seconds", "validation"), ("wall_seconds", "the whole process")):
        if result.get(name) is not None:
            words.insert(-1, f"{what} {result[name]:,.1f} s")
    return ", ".join(words)


def _wandb(facts: Mapping[str, Any]) -> str | None:
    tracking, records = facts["tracking"], facts["records"]
    if tracking is None:
        return None
    online, offline = tracking["records_online"] or 0, tracking["records_offline"] or 0
    words = f"run {tracking['wandb_id']}, {online:,} of {records:,} records online"
    if online < records:
        words += f", {offline:,} in offline files" if offline else ""
        words += f"; send with: drivetrain runs sync {facts['run']}"
    return words


def _curve(out: Console, facts: Mapping[str, Any], _all: bool) -> None:
    curve = facts["curve"]
    if curve is None:
        return
    values = curve["values"]
    ends = (
        f"{score_of(values[0])} to {score_of(values[-1])}, between {score_of(min(values))} and {score_of(max(values))}"
    )
    _section(out, curve["name"], {"": curve["line"], " ": ends})


def _settings(out: Console, facts: Mapping[str, Any], everything: bool) -> None:
    changed = facts["changed"]
    named = {flag(name): f"{_word(value)}   (usual: {_word(usual)})" for name, (value, usual) in changed.items()}
    _section(out, "settings unlike the preset", named or {"": "none"})
    if everything:
        rest = {flag(name): _word(value) for name, value in facts["config"].items() if name not in changed}
        _section(out, "all other settings", rest)


def _code(out: Console, facts: Mapping[str, Any], everything: bool) -> None:
    code = facts["code"]
    if not code:
        return
    known = code["versions"] if isinstance(code.get("versions"), dict) else {}
    commit = str(code.get("commit") or "unknown")[:12] + (
        ", with uncommitted changes" if code.get("uncommitted") else ""
    )
    versions = {name: version for name, version in known.items() if version}
    shown = versions if everything else {name: versions[name] for name in ("drivetrain", "torch") if name in versions}
    rows = {
        "command": str(code.get("command") or "unknown"),
        "commit": commit,
        "device": f"{code.get('device')}, {code.get('threads')} threads",
        "versions": ", ".join(f"{name} {version}" for name, version in shown.items()),
    }
    _section(out, "code", rows)


def _checkpoints(out: Console, facts: Mapping[str, Any], _all: bool) -> None:
    rows = [
        (f"{c['step']:,}", score_of(c["score"]), bytes_of(c["bytes"]), c["state"] + (", best" if c["best"] else ""))
        for c in facts["checkpoints"]
    ]
    _table(out, "checkpoints", ("step", "score", "size", "state"), rows or [("none", "", "", "")])


def _validations(out: Console, facts: Mapping[str, Any], everything: bool) -> None:
    found = facts["validations"]
    shown = found if everything else found[-FEW:]
    names = [name for name in ("mean", "min", "p10", "sd", "failures", "confirmed") if any(name in v for v in shown)]
    rows = [
        (f"{v['step']:,}", *(_count(v) if name == "failures" else score_of(v.get(name)) for name in names))
        for v in shown
    ]
    title = f"validations, the last {len(shown)} of {len(found)}" if len(shown) < len(found) else "validations"
    if rows:
        _table(out, title, ("step", *names), rows)


def _count(validation: Mapping[str, Any]) -> str:
    failures = validation.get("failures")
    return "–" if failures is None else f"{failures:.0f}"


def _files(out: Console, facts: Mapping[str, Any], everything: bool) -> None:
    videos = facts["videos"]
    many = f"{len(videos)}, the newest {videos[-1]}" if videos else None
    rows = {
        "films": ", ".join(videos) if everything and videos else many,
        "pictures": ", ".join(facts["pictures"]) or None,
        "TensorBoard": bytes_of(facts["tensorboard_bytes"]) if facts["tensorboard_bytes"] else None,
        "records": f"{facts['records']:,} in metrics.jsonl" if facts["records"] else None,
    }
    if any(rows.values()):
        _section(out, "files", rows)


def _next(out: Console, facts: Mapping[str, Any], _all: bool) -> None:
    _section(out, "next", {" " * number: command for number, command in enumerate(facts["next"])})


def _section(out: Console, title: str, rows: Mapping[str, str | Text | None]) -> None:
    """A title and lines of a name and what there is to say; those without anything are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:  # Text: brackets in it are no markup
            grid.add_row(f"  {name}" if name.strip() else "", value if isinstance(value, Text) else Text(value))
    out.print(f"[bold]{title}[/bold]")
    out.print(grid)
    out.print()


def _table(out: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    for number, column in enumerate(columns):
        table.add_column(f"  {column}" if number == 0 else column, justify="left" if column == "state" else "right")
    for row in rows:
        table.add_row(*row)
    out.print(f"[bold]{title}[/bold]")
    out.print(table)
    out.print()


def _word(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in value.items()) or "empty"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value) or "empty"
    return f"{value:,}" if isinstance(value, int) else str(value)


PARTS = (_head, _curve, _settings, _code, _checkpoints, _validations, _files, _next)

"""The command line: a verb, then one flat set of options.

Verbs are dispatched by hand so that ``drivetrain --help`` imports neither torch nor pydantic. A verb is a module of
this package with ``main(argv) -> Result``; it raises ``UserError`` for everything a user can mend.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

from drivetrain.envs.errors import UserError, nearest

__all__ = ["entry", "main", "split_imports"]

VERBS = {
    "train": ("ALGO ENV", "train a driver: drivetrain train ppo racing"),
    "resume": ("RUN", "go on from the newest checkpoint, exactly as if never stopped"),
    "pretrain": ("TASK", "learn from examples or a teacher: drivetrain pretrain function"),
    "evaluate": ("WHO", "score a run, expert or random on fresh tracks"),
    "watch": ("WHO …", "see drivers drive in a window, or drive yourself: human"),
    "record": ("WHO --out FILE", "film a run, expert or random: mp4 or gif, no display needed"),
    "export": ("RUN --out FILE", "write a run's whole decision for other programs: an ONNX graph"),
    "parity": ("", "drive twin and original side by side and report the differences"),
    "sweep": ("ALGO ENV", "search for better options, by many short trainings"),
    "compare": ("WHO …", "which runs are better, and how sure that is: curves, intervals, a report"),
    "runs": ("[show|prune|board|sync]", "list the runs; show one in full, make room, open TensorBoard"),
    "doctor": ("", "versions, device, what is missing and the line that installs it"),
}
NOT_BUILT = ("bench",)

EXIT_BUG = 1
EXIT_STORAGE = 6
EXIT_MEMORY = 8
EXIT_INTERRUPTED = 75


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done, 2 bad input, 3 no valid checkpoint, 4 diverged, 5 environment failure, 6 storage failure, 7 run locked,
    8 out of memory, 75 interrupted and resumable.
    """
    # Torch's threads wait for each other by spinning: long spins bring a busy machine to a halt, none at all makes
    # short operations slow. GNU OpenMP reads this once, when torch loads it.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # a terminal that lacks a letter shows a ?
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    args = list(sys.argv[1:] if argv is None else argv)
    debug, as_json = "--debug" in args, "--json" in args
    args = [arg for arg in args if arg not in ("--debug", "--json")]
    with contextlib.suppress(AttributeError, ValueError):
        signal.signal(signal.SIGTERM, _terminated)
    try:
        args, imports = split_imports(args)
        for module in imports:
            _import(module)
        code = _dispatch(args, as_json)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader went away (`drivetrain runs | head`); Python would complain once more while it shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        return _explain(error, as_json)


def entry() -> NoReturn:
    """The console script: `main`, and then out at once.

    Everything is flushed and on the disk by then. Taking torch and numba apart module by module would keep the user
    waiting for a second, so the interpreter's last steps are left out, except for what asked to be run at the end.
    """
    code = main()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def split_imports(args: list[str]) -> tuple[list[str], list[str]]:
    """The command line without its ``--import MODULE``, and the modules.

    Only what somebody typed is ever imported: a name read from a file is not.
    """
    rest: list[str] = []
    modules: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, given = word.partition("=")
        if name != "--import":
            rest.append(word)
            continue
        module = given if equals else next(words, "")
        if not module or module.startswith("-"):
            raise UserError("--import needs a module", got=module or "nothing", fix="write --import MODULE")
        modules.append(module)
    return rest, modules


def _import(module: str) -> None:
    """Run a module of the user's, which registers environments; the present folder counts as a place to look."""
    sys.path.append(os.getcwd())  # for good: an environment may be loaded only when it is made
    try:
        import_module(module.removesuffix(".py"))
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        fix = "give the name of a module in this folder or of an installed package"
        raise UserError(f"cannot import {module}", got=said, fix=fix) from error


def _dispatch(args: list[str], as_json: bool) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if args[0] in ("-V", "--version"):
        from drivetrain import __version__

        print(f"drivetrain {__version__}")
        return 0
    verb = args[0]
    if verb not in VERBS:
        _refuse(verb)
    run = import_module(f"drivetrain.{verb}").main
    if not as_json:
        return int(run(args[1:]).code)
    from drivetrain.output import dumps

    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        result = run(args[1:])
    print(dumps(result.values), file=stdout, flush=True)
    return int(result.code)


def _refuse(verb: str) -> NoReturn:
    if verb in NOT_BUILT:
        raise UserError(f"drivetrain {verb} is not built yet", allowed=VERBS, fix="see `drivetrain --help`")
    if verb.startswith("-"):
        raise UserError("the verb comes first", got=verb, allowed=VERBS, fix="see `drivetrain --help`")
    near = nearest(verb, VERBS)
    fix = f"did you mean `drivetrain {near}`?" if near else "see `drivetrain --help`"
    raise UserError("unknown verb", got=verb, allowed=VERBS, fix=fix)


def _help() -> str:
    width = max(len(f"{verb} {what}") for verb, (what, _) in VERBS.items())
    lines = [f"  {f'{verb} {what}'.strip():<{width}}  {summary}" for verb, (what, summary) in VERBS.items()]
    return "\n".join(
        [
            "usage: drivetrain VERB [options]",
            "",
            *lines,
            "",
            "WHO is a run (a name below runs/ or runs/baselines/, or a path), expert, or random.",
            "Every verb takes --help, --json (the last line of stdout is one JSON object), --debug (tracebacks), and",
            "--import MODULE (a module of yours that registers environments with Gymnasium).",
            "Begin with: drivetrain train ppo racing --stop-at 900",
        ]
    )


def _terminated(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _explain(error: BaseException, as_json: bool) -> int:
    """One line on stderr, and under ``--json`` the same as an object; returns the exit code."""
    values = getattr(error, "values", {})
    text, code = _describe(getattr(error, "cause", error))
    print(f"error: {text}", file=sys.stderr, flush=True)
    if as_json:
        from drivetrain.output import dumps

        print(dumps({"status": "failed", "error": text, "code": code} | dict(values)), flush=True)
    return code


def _describe(error: BaseException) -> tuple[str, int]:
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text, error.code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again", EXIT_INTERRUPTED
    if _is_out_of_memory(error):
        fix = "fewer cars need less: lower --num-envs (training) or --episodes (scoring), or free memory"
        return f"out of memory; got {text[:200] or 'MemoryError'}; {fix}", EXIT_MEMORY
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        return f"cannot read or write{where}; got {error.strerror or text}; check the path and free space", EXIT_STORAGE
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("drivetrain"):
        return f"the package {error.name} is missing; install it with `python -m pip install {error.name}`", 2
    return f"unexpected {type(error).__name__}; got {text[:300]}; run again with --debug and report it", EXIT_BUG


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # torch need not be imported to know its exception; its CPU allocator raises a plain RuntimeError
    named = any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))

"""The one file that speaks to wandb: opens a run there, sends what it is given, and tells whether it arrived.

Every folder wandb writes to lies inside the run folder, its console capture is off, it asks nothing, and what it prints
goes to a file of no name, where only the news of a failed upload is looked for.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.rundir import read_or_empty, read_run_config
from drivetrain.wandb_key import base_url, redacted
from drivetrain.wandb_options import project_of
from drivetrain.wandb_rows import STRIDE, Model, histograms, row
from drivetrain.wandb_state import FOLDER

__all__ = ["Client", "Destination", "WandbFailure", "quiet_output", "reachable", "set_up", "stop_services"]

HTTP_TIMEOUT = "8"  # s for one question to the server; wandb asks again
MODEL_TIMEOUT = 6  # s that the newest model waits for the best one
LOST = b"will not be synced"  # in wandb's words for an upload that it gave up
PUBLIC = ("project", "entity", "group", "tags")  # options that are no setting of the training


class WandbFailure(Exception):
    """wandb does not do what it was asked for; the text is fit for a log."""


@dataclass(frozen=True)
class Destination:
    """Where a run goes and how long that may take."""

    run: Path
    id: str
    online: bool
    pid: int  # of the process whose use of the machine is recorded, 0 = of none
    init_timeout: float = 15.0  # s
    finish_timeout: float = 12.0  # s, 0 = until everything is sent
    resumed_seq: int = 0  # last record that the destination is known to have


def set_up(run: Path) -> None:
    """Point wandb's folders into the run folder and silence what it would report elsewhere; before it is imported."""
    folder = (run / FOLDER).absolute()
    for name in ("DATA", "CACHE", "ARTIFACT"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / name.lower())
    os.environ["WANDB_BASE_URL"] = base_url()  # a password in it would end up in links and logs
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", HTTP_TIMEOUT)
    # decided by us; and its debugging writes the key to its logs
    for name in ("MODE", "RESUME", "RUN_ID", "DIR", "CONSOLE", "SILENT", "SERVICE", "DEBUG", "CORE_DEBUG"):
        os.environ.pop(f"WANDB_{name}", None)


def reachable(patience: float) -> bool:
    """Whether the server answers within ``patience`` s; looking up its name may hang, which must not hold us up."""
    answered = False

    def ask() -> None:
        nonlocal answered
        try:
            urllib.request.urlopen(urllib.request.Request(base_url(), method="HEAD"), timeout=patience).close()
            answered = True
        except urllib.error.HTTPError as error:
            answered = error.code < 500
        except (OSError, ValueError, http.client.HTTPException):
            return

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    return answered


@contextlib.contextmanager
def quiet_output() -> Iterator[Any]:
    """Everything this process and its children print goes to an unnamed file, which is handed out."""
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        before = [os.dup(1), os.dup(2)]
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            for number, handle in zip((1, 2), before, strict=True):
                os.dup2(handle, number)
                os.close(handle)


class Client:
    """A run that is open at wandb, or in an offline file."""

    def __init__(self, destination: Destination, said: Any) -> None:
        """Open or reopen it.

        Args:
            destination: where to.
            said: the file that ``quiet_output`` handed out.

        Raises:
            WandbFailure: not reachable, refused, or no room.
        """
        try:
            import wandb
        except Exception as error:  # a broken installation must not look like a broken run
            raise WandbFailure(f"cannot be loaded ({redacted(str(error))})") from None
        self._wandb, self._to, self._said = wandb, destination, said
        try:
            self._run = _open(wandb, destination)
        except Exception as error:  # whatever it is, the run itself is not concerned
            raise WandbFailure(_reason(error)) from None
        known = self._run.starting_step - 1 if self._run.resumed else -1
        # where the server knows nothing of the run, our notes of it are void: somebody removed it there
        self.seq = max(known // STRIDE, destination.resumed_seq if self._run.resumed or not destination.online else 0)
        self._step = max(known, self.seq * STRIDE)

    @property
    def url(self) -> str | None:
        """Where it can be seen."""
        return self._run.url if self._to.online else None

    def send_record(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl; one that is there already is left out."""
        if record["seq"] <= self.seq:
            return
        values: dict[str, Any] = row(record)
        for name, (counts, edges) in histograms(record).items():
            values[name] = self._wandb.Histogram(np_histogram=(np.array(counts), np.array(edges)))
        self.seq, self._step = int(record["seq"]), STRIDE * int(record["seq"])
        self._log(values, self._step)

    def send_film(self, name: str, step: int) -> bool:
        """A film of the run folder; False if there is no step left for it before the next record."""
        return self._send_media("media/film", lambda path: self._wandb.Video(path, format="mp4"), name, step)

    def send_picture(self, name: str, step: int) -> bool:
        """A picture of the run folder; False if there is no step left for it before the next record."""
        return self._send_media(f"media/{Path(name).stem}", self._wandb.Image, name, step)

    def send_model(self, model: Model, aliases: list[str], wait: bool = False) -> None:
        """The weights of a checkpoint, with its manifest and config.json; ``wait`` keeps the next one behind it.

        Raises:
            WandbFailure: the checkpoint was removed meanwhile, or wandb refuses.
        """
        metadata = {"step": model.step, "score": model.score}
        try:
            artifact = self._wandb.Artifact(f"model-{self._to.id}", type="model", metadata=metadata)
            files = [model.path / "model.safetensors", model.path / "manifest.json", self._to.run / "config.json"]
            for path in files:
                artifact.add_file(str(path), skip_cache=True)
            sent = self._run.log_artifact(artifact, aliases=aliases)
        except Exception as error:
            raise WandbFailure(_reason(error)) from None
        if wait and self._to.online:  # the server calls the one that comes last the latest
            with contextlib.suppress(Exception):
                sent.wait(timeout=MODEL_TIMEOUT)

    def send_summary(self, values: Mapping[str, Any]) -> None:
        """What stands beside the run's name."""
        with _as_failure():
            self._run.summary.update(dict(values))

    def finish(self, success: bool) -> bool:
        """Send what waits and close; whether everything is known to have arrived.

        Raises:
            WandbFailure: it broke off.
        """
        with _as_failure():
            self._run.finish(exit_code=0 if success else 1)
        self._said.seek(0)
        return LOST not in self._said.read()

    def _send_media(self, metric: str, kind: Callable[[str], Any], name: str, step: int) -> bool:
        if self._step % STRIDE == STRIDE - 1:
            return False
        with _as_failure():
            media = kind(str(self._to.run / name))
        self._step += 1
        self._log({metric: media, "media/step": step}, self._step)
        return True

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        with _as_failure():
            self._run.log(dict(values), step=step)


def _open(wandb: Any, to: Destination) -> Any:
    """``wandb.init`` with everything said that it would otherwise guess, ask for or tell."""
    config = read_run_config(to.run)
    code = read_or_empty(to.run / "code.json")
    settings = wandb.Settings(
        init_timeout=to.init_timeout,
        finish_timeout=to.finish_timeout,
        finish_timeout_raises=True,
        login_timeout=1,
        console="off",
        quiet=True,
        show_info=False,
        disable_git=True,  # remote addresses may hold passwords; the commit is in code.json
        disable_code=True,
        disable_job_creation=True,
        x_save_requirements=False,
        x_stats_pid=to.pid or os.getpid(),
        x_disable_stats=to.pid == 0,
        program="drivetrain",
        x_executable="python",
        stop_fn=lambda: None,  # a stop button at wandb must not stop us in the middle of sending
    )
    before = sys.argv
    sys.argv = str(code.get("command", "drivetrain")).split()  # what the run's page shows as its command
    try:
        run = wandb.init(
            mode="online" if to.online else "offline",
            id=to.id,
            resume="allow",
            project=project_of(config.get("project")),
            entity=config.get("entity"),
            group=config.get("group"),
            tags=list(config.get("tags") or ()) or None,
            name=to.run.resolve().name,
            job_type=str(config.get("algo", "train")),
            dir=str(to.run),
            config={name: value for name, value in config.items() if name not in PUBLIC} | {"code": code},
            allow_val_change=True,
            settings=settings,
        )
    finally:
        sys.argv = before
    run.define_metric("global_step")
    run.define_metric("*", step_metric="global_step", step_sync=False)
    run.define_metric("media/step", hidden=True)
    run.define_metric("media/*", step_metric="media/step", step_sync=False)
    return run


@contextlib.contextmanager
def _as_failure() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise WandbFailure(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """What is wrong, in a few words: wandb tells it in many, with addresses that may hold passwords."""
    text = f"{type(error).__name__} {error}"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if re.search(r"\b(401|403)\b|AuthenticationError|API key", text):
        return "the key is refused"
    if re.search(r"(HTTP|error|status) 5\d\d\b", text):
        return "the server is out of order"
    if re.search(r"dial|lookup|refused|deadline|timed out|giving up|unreachable|EOF", text):
        return "the server does not answer"
    if re.search(r"Connection(Reset)?Error|Connection lost|Mailbox|HandleAbandoned|BrokenPipe", text):
        return "its own service has died"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return redacted(text)


def stop_services() -> None:
    """End the children of this process, wandb's service, where the system tells who they are."""
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for child in path.read_text().split():
                os.kill(int(child), signal.SIGKILL)

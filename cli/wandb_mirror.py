"""The process beside a training that keeps the run at wandb up to date.

It reads what the trainer writes: metrics.jsonl, the checkpoints, the films. A record goes to wandb once a published
checkpoint covers it, because until then a resumption may take it back; the rest follows when the run ends. Standard
input says how the run ended (one word) and, by its own end, that every file is in place. Whatever goes wrong here is
one line for the user and nothing to the training; `drivetrain runs sync` sends later what is missing.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

__all__ = ["main"]

POLL = 2.0  # s between looks at the files
PROBE = 1.5  # s a server has to answer before a run counts as online by default
PROBE_AT_END = 4.0  # s it has to answer before the rest is sent


def main(argv: list[str]) -> int:
    """Mirror ``RUN`` in ``MODE`` (auto, online, offline) for the trainer with ``PID`` until stdin ends.

    ``AGAIN`` and ``WORD``, if given, come from an attempt before: whether it is not to be tried once more, and how the
    run has ended meanwhile.
    """
    run, mode, pid = Path(argv[0]), argv[1], int(argv[2])
    again, word = argv[3:4] == ["again"], argv[4] if len(argv) > 4 else ""
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(OSError):
        os.set_blocking(1, True)
    ears = Ears(word)
    while not (run / "metrics.jsonl").exists():  # until then the run may still be refused, and its folder removed
        ears.listen(0.2)
        if ears.closed:
            return 0
    job = Job(run, mode, pid, again, ears, os.fdopen(os.dup(1), "w", encoding="utf-8"))
    try:
        reason = _mirror(job)
    except Exception as error:  # a full disk, for one; the run goes on without us
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if reason and not job.again:
        _try_again(job, reason)
    if reason:
        job.say(f"{reason}; the run goes on, `{job.sync}` sends what is missing")
    _leave()


@dataclass(frozen=True)
class Job:
    """What this process is here for."""

    run: Path
    mode: str
    pid: int  # of the trainer
    again: bool  # whether this is the second attempt
    ears: Ears
    talk: IO[str]

    @property
    def sync(self) -> str:
        """The command that sends what is missing."""
        from drivetrain.rundir import run_name

        return f"drivetrain runs sync {shlex.quote(run_name(self.run))}"

    def say(self, text: str) -> None:
        """A line for the user."""
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            print(f"wandb: {text}", file=self.talk, flush=True)


def _mirror(job: Job) -> str:
    """Do it; returns why it broke off, or nothing."""
    from drivetrain.wandb_client import Client, Destination, WandbFailure, quiet_output, reachable, set_up
    from drivetrain.wandb_feed import Feed
    from drivetrain.wandb_state import load_state, save_state, take_turn

    turn = take_turn(job.run)
    state = load_state(job.run)
    save_state(job.run, state)  # the id is ours from here on
    set_up(job.run)
    if job.mode == "auto" and not reachable(PROBE):
        job.say(f"the server does not answer; the run is kept offline, `{job.sync}` sends it")
        online = False
    else:
        online = job.mode != "offline"
    with quiet_output() as said:
        known = state.tally(online).seq
        try:
            client = Client(Destination(job.run, state.id, online, job.pid, resumed_seq=known), said)
        except WandbFailure as error:
            return str(error)
        if online:
            job.say(f"online{f', {client.url}' if client.url else ''}")
        elif job.mode == "offline" and not job.again:
            job.say(f"offline; `{job.sync}` sends it")
        try:
            arrived = _follow(job, Feed(job.run, state, client, online), online)
        except WandbFailure as error:
            return str(error)
    turn.release()
    if online and not arrived:
        job.say(f"not everything has arrived; `{job.sync}` sends the rest")
    return ""


def _follow(job: Job, feed: Any, online: bool) -> bool:
    """Send what comes until the trainer is gone; whether everything has arrived."""
    from drivetrain.wandb_client import reachable

    ears = job.ears
    while not ears.word and not ears.closed:
        feed.look()
        ears.listen(POLL)
    if online and not reachable(PROBE_AT_END):  # wandb itself would wait until it is stopped
        return False
    feed.end(ears.word)
    while not ears.closed:  # the last pictures are being drawn
        ears.listen(POLL)
    return bool(feed.close(ears.word))


def _try_again(job: Job, reason: str) -> None:
    """Begin anew as another program in this process: wandb does not get over a failure of its own.

    A server that cannot be had makes the run an offline one. wandb's service is stopped first, because it would not
    notice that its client is gone.
    """
    from drivetrain.wandb_client import stop_services

    if job.mode != "offline":
        job.say(f"{reason}; the run is kept offline, `{job.sync}` sends it")
    stop_services()
    arguments = [str(job.run), "offline", str(job.pid), "again", job.ears.word]
    os.dup2(job.talk.fileno(), 1)
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-P", "-m", "drivetrain.wandb_mirror", *arguments])


class Ears:
    """What the trainer says: a word when the run has ended, and silence when it is gone."""

    def __init__(self, word: str = "") -> None:
        self.word = word
        self.closed = False

    def listen(self, seconds: float) -> None:
        """Wait for news, ``seconds`` at most."""
        handle = sys.stdin.fileno()
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(handle, select.POLLIN | select.POLLHUP)
            if not poll.poll(1000 * seconds):
                return
        heard = os.read(handle, 4096)
        self.closed = not heard
        self.word += heard.decode(errors="replace").strip()


def _leave(*signalled: object) -> NoReturn:
    """Out at once: wandb's own exit handlers may wait for a server."""
    if signalled:
        from drivetrain.wandb_client import stop_services

        stop_services()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

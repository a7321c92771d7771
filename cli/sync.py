"""``drivetrain runs sync RUN``: send to wandb what of a run is not there yet.

The local files are the source: metrics.jsonl, the films and pictures, the checkpoints. The server says which record
came last, so that it does not matter how the run was tracked before, nor what broke off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result
from drivetrain.rundir import RunDir, open_run, read_run_config, run_name
from drivetrain.wandb_key import has_key, login_hint
from drivetrain.wandb_options import TrackOptions, tracking
from drivetrain.wandb_rows import best_model, films, final_seq, models, newest_model, pictures
from drivetrain.wandb_state import FOLDER, State, Tally, file_key, load_state, save_state, take_turn

if TYPE_CHECKING:
    from drivetrain.wandb_client import Client

__all__ = ["main"]

INIT_TIMEOUT = 30.0  # s
FINISH_TIMEOUT = 600.0  # s; a server that went away must not hold a terminal for ever
TURN = 30.0  # s to wait for the mirror of a training that was killed
EXIT_STORAGE = 6


class SyncOptions(Options):
    """Options"""


SPEC = Spec(
    SyncOptions,
    "drivetrain runs sync RUN",
    "Send to wandb what of a run is not there yet: rows, films, pictures, models. Needs a key; sends nothing twice.",
    positionals=("run",),
)


def main(argv: list[str]) -> Result:
    """Send a run.

    Raises:
        UserError: no key, no such run, or everything is there already (2), being trained (7), or not sent (6).
    """
    name = parse(SPEC, argv).words[0]
    with_lock = open_run(name)
    try:
        return _sync(with_lock)
    finally:
        with_lock.close()


def _sync(run: RunDir) -> Result:
    _check(run.path)
    turn = take_turn(run.path, TURN)
    try:
        return _send_missing(run.path)
    finally:
        turn.release()


def _send_missing(run: Path) -> Result:
    from drivetrain.wandb_client import set_up

    state = load_state(run)
    seq, status = final_seq(run)
    if seq == 0:
        raise UserError(f"nothing of {run} can be sent yet", got="no record that a checkpoint covers")
    if _is_complete(run, state.online, seq, status):
        raise _already(run, "sent before")
    if _sent_by_hand(run, state) and _is_complete(run, state.offline, seq, status):
        raise _already(run, "sent by `wandb sync`")
    save_state(run, state)
    set_up(run)
    print(f"sending {run_name(run)} to wandb", flush=True)
    before, url, arrived = _send(run, state, seq, status)
    if not arrived:
        fix = "run the same command again"
        raise UserError("not everything has arrived at wandb", got=url or state.id, fix=fix, code=EXIT_STORAGE)
    print(f"{seq - before:,} of {seq:,} records were missing and are sent{f': {url}' if url else ''}")
    return Result({"run": run_name(run), "id": state.id, "records": seq, "sent": seq - before, "url": url})


def _check(run: Path) -> None:
    """Refuse what cannot succeed."""
    config = read_run_config(run)
    recorded = {name: config[name] for name in TrackOptions.model_fields if name in config}
    tracking(TrackOptions.model_validate(recorded | {"track": "offline"}))
    if not has_key():
        raise UserError("sending a run to wandb needs a key", got="none for this server", fix=login_hint())


def _send(run: Path, state: State, seq: int, status: str) -> tuple[int, str | None, bool]:
    """(last record that was there before, address, whether everything has arrived)."""
    from drivetrain.wandb_client import Client, Destination, WandbFailure, quiet_output
    from drivetrain.wandb_feed import Feed

    to = Destination(run, state.id, online=True, pid=0, init_timeout=INIT_TIMEOUT, finish_timeout=FINISH_TIMEOUT)
    try:
        with quiet_output() as said:
            client: Client = Client(to, said)
            before, url = client.seq, client.url
            feed = Feed(run, state, client, online=True)
            feed.end(status, last_seq=seq)
            return before, url, feed.close(status)
    except WandbFailure as error:
        fix = "check the network and the key, then run the same command again"
        raise UserError("the run could not be sent to wandb", got=str(error), fix=fix, code=EXIT_STORAGE) from None


def _is_complete(run: Path, tally: Tally, seq: int, status: str) -> bool:
    found = models(run)
    best, newest = best_model(found), newest_model(found)
    names = [name for name, _ in films(run)] + pictures(run)
    return (
        tally.seq >= seq
        and tally.status == (status or tally.status)
        and tally.best == (best.step if best is not None else -1)
        and tally.latest == (newest.step if newest is not None else -1)
        and all(file_key(run, name) in tally.files for name in names)
    )


def _sent_by_hand(run: Path, state: State) -> bool:
    """Whether `wandb sync` has sent every offline file; it leaves a mark beside each."""
    logs = sorted((run / FOLDER).glob(f"offline-run-*/run-{state.id}.wandb"))
    return bool(logs) and all(os.path.exists(f"{log}.synced") for log in logs)


def _already(run: Path, how: str) -> UserError:
    fix = f"nothing is left to do; go on with the run by `drivetrain resume {run_name(run)}`"
    return UserError("everything of this run is at wandb already", got=f"{run_name(run)}, {how}", fix=fix)

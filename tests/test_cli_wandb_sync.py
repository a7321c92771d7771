"""`drivetrain runs sync`: what is missing at wandb is sent, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_runs import end, logged_in, make_run, mirror, publish, stranger, write
from wandb_server import WandbServer

from drivetrain import sync
from drivetrain.envs.errors import UserError
from drivetrain.lock import RunLock
from drivetrain.wandb_state import load_state


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger(tmp_path, monkeypatch)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with logged_in(monkeypatch) as server:
        yield server


def send(run: Path) -> tuple[int, dict[str, object]]:
    """`runs sync` in a process of its own, as wandb is loaded once in a process; exit code and result, or the error."""
    code = "import sys; from drivetrain.main import main; from drivetrain import main as m; m.VERBS['sync'] = ('', '');"
    code += "sys.exit(main(['sync', sys.argv[1], '--json']))"
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def finished(*, offline: bool) -> Path:
    """A run of three records that ended."""
    run = make_run()
    write(run, 1, 2, 3)
    publish(run, 2, score=9.0)
    publish(run, 3, score=8.0)
    (run / "videos").mkdir()
    (run / "videos" / "step_000000000200.mp4").write_bytes(b"film")
    end(run, "done", 3)
    if offline:
        mirror(run, "offline", "done")
    return run


def test_an_offline_run_arrives_once_and_a_second_time_is_refused(server: WandbServer) -> None:
    run = finished(offline=True)
    code, result = send(run)
    assert (code, result["records"], result["sent"]) == (0, 3, 3)
    assert result["id"] == load_state(run).id == server.run.id
    assert [row["global_step"] for row in server.run.records] == [100, 200, 300]
    assert b"film" in server.run.files.values()
    assert [artifact.aliases for artifact in server.artifacts] == [["best"], ["latest"]]
    assert server.run.summary["status"] == "done"
    code, result = send(run)
    assert code == 2
    assert "everything of this run is at wandb already" in str(result["error"])
    assert "resume" in str(result["error"])
    assert len(server.run.history) == 4


def test_a_run_that_was_never_tracked_can_be_sent_and_its_continuation_too(server: WandbServer) -> None:
    run = finished(offline=False)
    assert send(run)[0] == 0
    write(run, 4)
    publish(run, 4)
    end(run, "done", 4)
    code, result = send(run)
    assert (code, result["sent"]) == (0, 1)
    assert [row["_step"] for row in server.run.records] == [100, 200, 300, 400]
    assert len([row for row in server.run.history if "media/film" in row]) == 1


def test_a_run_that_wandb_sync_has_sent_is_refused(server: WandbServer) -> None:
    run = finished(offline=True)
    (log,) = (run / "wandb").glob("offline-run-*/*.wandb")
    Path(f"{log}.synced").touch()  # what `wandb sync` leaves
    with pytest.raises(UserError, match="already; got r, sent by `wandb sync`"):
        sync.main([str(run)])
    assert server.requests == []


def test_records_that_may_be_taken_back_are_not_sent(server: WandbServer) -> None:
    run = make_run()
    write(run, 1, 2, 3)
    publish(run, 2)
    code, result = send(run)
    assert (code, result["records"]) == (0, 2)
    assert [row["global_step"] for row in server.run.records] == [100, 200]


def test_without_a_key_it_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(offline=False)
    with pytest.raises(UserError, match="wandb login") as caught:
        sync.main([str(run)])
    assert caught.value.code == 2
    assert not (run / "wandb").exists()


def test_a_run_in_training_and_an_empty_one_are_refused(server: WandbServer) -> None:
    run = make_run()
    with pytest.raises(UserError, match="no record") as caught:
        sync.main([str(run)])
    assert caught.value.code == 2
    with RunLock(run), pytest.raises(UserError, match="in use") as caught:
        sync.main([str(run)])
    assert caught.value.code == 7
    with pytest.raises(UserError, match="no such run"):
        sync.main(["nothing"])


def test_a_server_that_refuses_the_key_is_one_line(server: WandbServer) -> None:
    server.fault = "401"
    code, result = send(finished(offline=False))
    assert code == 6
    assert "the key is refused" in str(result["error"])
    server.fault = ""
    assert send(Path("runs/r"))[0] == 0

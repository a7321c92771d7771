"""The process that keeps a run at wandb up to date: offline files are read back with wandb's own reader, and online it
speaks to a server on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wandb_runs import end, history, logged_in, make_run, mirror, publish, read_back, stranger, until_said, write
from wandb_server import WandbServer, wait_until

from drivetrain.trackers import Trackers, WandbMirror
from drivetrain.wandb_options import Tracking
from drivetrain.wandb_state import State, load_state, save_state

CANARIES = {name: f"canary-{name}".ljust(60, "x") for name in ("env", "netrc", "proxy", "url", "header", "token")}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger(tmp_path, monkeypatch)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with logged_in(monkeypatch) as server:
        yield server


def film(run: Path, step: int, content: bytes = b"film") -> None:
    (run / "videos").mkdir(exist_ok=True)
    (run / "videos" / f"step_{step:012d}.mp4").write_bytes(content)


def test_an_offline_run_holds_rows_config_film_picture_and_summary() -> None:
    run = make_run(project="mine", group="g", tags=["a", "b"])
    write(run, 1, 2, 3)
    publish(run, 2, score=7.0)
    film(run, 200)
    (run / "curve.png").write_bytes((Path(__file__).parent.parent / "docs" / "watch.png").read_bytes())
    end(run, "done", 3)
    assert mirror(run, "offline", "done") == ["wandb: offline; `drivetrain runs sync r` sends it"]
    records = read_back(run)
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    mirrored = [(row["_step"], row["global_step"], row["train/return"]) for row in rows if "seconds" in row]
    assert mirrored == [(100, 100, 1.0), (200, 200, 2.0), (300, 300, 3.0)]
    assert rows[1]["eval/actions/steer.values"] == [1, 2]
    assert rows[1]["eval/actions/steer.bins"] == [-1, 0, 1]
    assert {row["media/film._type"] for row in rows if "media/film._type" in row} == {"video-file"}
    assert [row["_step"] for row in rows if "media/curve._type" in row] == [301]  # between two records
    (begin,) = [record["run"] for record in records if record["type"] == "run"]
    assert (begin["project"], begin["run_group"], begin["tags"]) == ("mine", "g", ["a", "b"])
    assert begin["config"]["update"]["code"]["commit"] == "abc"
    summary = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    assert (summary["status"], summary["best_score"], summary["steps_per_s"]) == ("done", 7.0, 50.0)
    metrics = [record["metric"] for record in records if record["type"] == "metric"]
    assert {"glob_name": "*", "step_metric": "global_step", "options": {"defined": True}} in metrics
    assert [path.name for path in run.parent.parent.glob("wandb*")] == []  # nothing beside the run folder
    assert load_state(run).offline.status == "done"


def test_rows_wait_for_a_checkpoint_and_a_killed_training_leaves_none_that_may_be_taken_back() -> None:
    run = make_run()
    write(run, 1, 2, 3, 4)
    publish(run, 2)
    mirror(run, "offline")  # no word: the trainer was killed
    assert [row["global_step"] for row in history(run)] == [100, 200]
    # resumed from the checkpoint: records 3 and 4 are made anew
    lines = (run / "metrics.jsonl").read_text().splitlines()[:2]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    write(run, 3, 4, 5, lap=1)
    publish(run, 5)
    end(run, "done", 5)
    mirror(run, "offline", "done")
    rows = [row for row in history(run) if "seconds" in row]
    assert [row["global_step"] for row in rows] == [100, 200, 300, 400, 500]
    assert [row["train/return"] for row in rows] == [1.0, 2.0, 1003.0, 1004.0, 1005.0]
    begins = [record["run"]["run_id"] for record in read_back(run) if record["type"] == "run"]
    assert begins == [load_state(run).id] * 2


def test_a_run_that_diverged_shows_how() -> None:
    run = make_run()
    write(run, 1, 2, 3)
    publish(run, 1)
    end(run, "diverged", 3)
    mirror(run, "offline", "diverged")
    assert [row["global_step"] for row in history(run)] == [100, 200, 300]


def test_an_online_run_arrives_while_it_is_trained_and_its_models_at_the_end(server: WandbServer) -> None:
    run = make_run(entity="team")
    side = WandbMirror(run, "auto")
    write(run, 1, 2)
    publish(run, 2, score=9.0)
    lines = until_said(side, "online")
    assert server.url in lines[0]
    wait_until(lambda: [row["global_step"] for row in server.run.records] == [100] or len(server.run.records) == 2)
    write(run, 3)
    publish(run, 3, score=8.0)
    film(run, 200)
    end(run, "done", 3)
    side.announce("done")
    assert side.close(60.0) == []
    assert [row["global_step"] for row in server.run.records] == [100, 200, 300]
    assert server.run.entity == "team"
    assert server.run.exit_codes == [0]
    assert server.run.summary["best_score"] == 9.0
    assert b"film" in server.run.files.values()
    best, latest = server.artifacts
    assert (best.aliases, latest.aliases) == (["best"], ["latest"])
    assert best.files["model.safetensors"] == (run / "checkpoints/step_000000000200/model.safetensors").read_bytes()
    assert json.loads(best.files["manifest.json"])["step"] == 200
    assert json.loads(latest.files["config.json"])["seed"] == 3
    assert not [request for request in server.requests if request.startswith("/sdk/")]  # no telemetry
    tally = load_state(run).online
    assert (tally.seq, tally.best, tally.latest, tally.status) == (3, 200, 300, "done")


def test_the_server_says_what_is_missing_when_a_run_goes_on(server: WandbServer) -> None:
    run = make_run()
    write(run, 1, 2)
    publish(run, 2)
    mirror(run, "auto")
    assert server.run.exit_codes == [1]  # killed
    film(run, 200)
    write(run, 3, 4)
    publish(run, 4)
    save_state(run, State(load_state(run).id))  # as if the first mirror had been killed before it took note
    mirror(run, "auto", "interrupted")
    rows = server.run.records
    assert [row["global_step"] for row in rows] == [100, 200, 300, 400]
    assert [row["_step"] for row in rows] == [100, 200, 300, 400]
    assert len(server.runs) == 1


@pytest.mark.slow
def test_what_an_offline_run_kept_goes_online_with_its_continuation(server: WandbServer) -> None:
    run = make_run()
    write(run, 1, 2)
    publish(run, 2)
    mirror(run, "offline")
    write(run, 3)
    publish(run, 3)
    end(run, "done", 3)
    mirror(run, "online", "done")
    assert [row["global_step"] for row in server.run.records] == [100, 200, 300]


@pytest.mark.parametrize("fault", ["401", "refused"])
def test_a_run_that_cannot_go_online_is_kept_offline(server: WandbServer, fault: str) -> None:
    server.fault = fault
    run = make_run()
    write(run, 1)
    publish(run, 1)
    end(run, "done", 1)
    lines = mirror(run, "auto" if fault == "refused" else "online", "done")
    assert len(lines) == 1
    assert "kept offline" in lines[0]
    assert "drivetrain runs sync r" in lines[0]
    assert [row["global_step"] for row in history(run)] == [100]
    assert load_state(run).online.seq == 0


@pytest.mark.slow
def test_a_service_that_is_killed_is_a_line_and_the_run_is_kept_offline(server: WandbServer) -> None:
    run = make_run()
    side = WandbMirror(run, "online")
    write(run, 1)
    publish(run, 1)
    until_said(side, "online")
    assert side._side.process is not None
    children = Path(f"/proc/{side._side.process.pid}/task/{side._side.process.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)
    write(run, 2)
    publish(run, 2)
    end(run, "done", 2)
    side.announce("done")
    lines = side.close(60.0)
    assert "kept offline" in " ".join(lines)
    assert [row["global_step"] for row in history(run) if "seconds" in row] == [100, 200]


def test_no_key_reaches_a_file_or_the_screen(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = server.url.removeprefix("http://")
    (tmp_path / ".netrc").write_text(f"machine {host}\n login user\n password {CANARIES['netrc']}\n")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://user:{CANARIES['url']}@{host}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{CANARIES['proxy']}@127.0.0.1:9")
    monkeypatch.setenv("WANDB__EXTRA_HTTP_HEADERS", json.dumps({"X-Secret": CANARIES["header"]}))
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    token = {"credentials": {server.url: {"access_token": CANARIES["token"]}}}
    (tmp_path / ".config" / "wandb" / "credentials.json").write_text(json.dumps(token))
    monkeypatch.setenv("WANDB_CORE_DEBUG", "true")
    said = []
    for name, key in (("a", None), ("b", CANARIES["env"]), ("c", CANARIES["env"])):
        if key is None:
            monkeypatch.delenv("WANDB_API_KEY")
        else:
            monkeypatch.setenv("WANDB_API_KEY", key)
        server.fault = "401" if name == "c" else ""
        run = make_run(name)
        write(run, 1)
        publish(run, 1)
        end(run, "done", 1)
        said += mirror(run, "online", "done")
    assert len(server.authorizations) == 2  # both keys were used
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    for canary in CANARIES.values():
        assert not [path for path in files if canary.encode() in path.read_bytes()]
        assert canary[:12] not in "\n".join(said)


def test_nothing_is_written_into_a_run_that_is_refused(tmp_path: Path) -> None:
    run = make_run()
    side = WandbMirror(run, "offline")
    time.sleep(0.5)
    assert not (run / "wandb").exists()
    side.abandon()
    assert side._side.process is not None
    assert side._side.process.poll() is not None


def test_looking_never_waits_and_a_half_written_line_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, time; os.write(1, b'one\\ntw'); time.sleep(0.4); os.write(1, b'o\\n')"
    side = WandbMirror(make_run(), "offline")
    assert side._side.process is not None
    side._side.stop()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    side._side.process = process
    seen: list[str] = []
    wait_until(lambda: bool(seen.extend(side.look()) or seen))
    assert seen == ["one"]
    wait_until(lambda: bool(seen.extend(side.look()) or len(seen) > 1))
    assert seen == ["one", "two"]
    process.wait()


def test_a_mirror_that_hangs_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetrain.trackers.PATIENCE_ALL", 1.0)
    run = make_run()
    trackers = Trackers(run, Tracking("offline", note="one line"))
    trackers.begin()
    assert trackers.look() == ["one line"]
    assert trackers._wandb is not None
    process = trackers._wandb._side.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    lines = trackers.close("done")
    assert "not everything was sent in time" in lines[-1]
    assert process.poll() is not None
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_second_mirror_waits_for_the_first(server: WandbServer) -> None:
    run = make_run()
    write(run, 1, 2)
    publish(run, 2)
    first = WandbMirror(run, "online")
    until_said(first, "online")
    second = WandbMirror(run, "online")  # its trainer was killed, and the run goes on already
    write(run, 3)
    publish(run, 3)
    time.sleep(1.0)
    assert second.look() == []
    assert first.close(60.0) == []
    end(run, "done", 3)
    second.announce("done")
    assert "online" in second.close(60.0)[0]
    assert [row["_step"] for row in server.run.records] == [100, 200, 300]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "500", "refused"])
def test_a_server_that_fails_from_the_start_costs_a_minute_of_waiting_at_most(server: WandbServer, fault: str) -> None:
    server.fault = fault
    run = make_run()
    write(run, 1)
    publish(run, 1)
    end(run, "done", 1)
    began = time.monotonic()
    lines = mirror(run, "online", "done")
    assert "kept offline" in lines[0]
    assert time.monotonic() - began < 50
    assert [row["global_step"] for row in history(run)] == [100]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "500", "401", "refused"])
def test_a_server_that_fails_midway_leaves_the_rest_for_later(server: WandbServer, fault: str) -> None:
    run = make_run()
    side = WandbMirror(run, "online")
    write(run, 1)
    publish(run, 1)
    until_said(side, "online")
    server.fault = fault
    write(run, 2)
    publish(run, 2)
    end(run, "done", 2)
    side.announce("done")
    lines = side.close(60.0)
    assert "runs sync" in " ".join(lines)
    assert load_state(run).online.status == ""
    server.fault = ""
    mirror(run, "online", "done")
    assert [row["_step"] for row in server.run.records] == [100, 200]

"""The command line end to end, with runs of a few hundred steps."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain import learner, session, trackers
from drivetrain.agents.checkpoint import MODEL, TRAINER, VALUES, choose_checkpoint
from drivetrain.agents.evaluate import Scores
from drivetrain.agents.metrics import METRICS
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.observe import OBS_SIZE
from drivetrain.journal import read_metrics
from drivetrain.main import main
from drivetrain.train import RunOptions, make_plan
from drivetrain.train import main as train_main

# 4 cars, 8 steps: 32 steps an update
TINY = ["--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--num-tracks", "2", "--hidden", "8"]
TINY += ["--threads", "1", "--device", "cpu"]
DOCS = Path(__file__).parent.parent / "docs"


class NoMirror:
    def close(self) -> None: ...
    def abandon(self) -> None: ...


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "LocalMirror", lambda *_: NoMirror())


def call(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    assert main([*argv, "--json"]) == code
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return dict(json.loads(out))


def bytes_of(run: str) -> dict[str, bytes]:
    newest = choose_checkpoint(Path("runs", run, "checkpoints"), "last").path
    return {name: (newest / name).read_bytes() for name in (MODEL, TRAINER)}


def curve(run: str) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if name != "seconds" and not name.startswith("time/")}
        for record in read_metrics(Path("runs", run, "metrics.jsonl"))
    ]


def test_a_run_folder_holds_what_the_contract_says(capsys: pytest.CaptureFixture[str]) -> None:
    result = call(capsys, "train", "ppo", "racing", *TINY, "--steps", "96", "--name", "r", "--eval-every", "none")
    assert (result["run"], result["status"], result["steps"]) == ("r", "done", 96)
    assert {"frames", "seconds", "eval_seconds", "wall_seconds", "steps_per_s", "score"} <= set(result)
    assert 0 < result["seconds"] < result["wall_seconds"]
    assert result["seconds"] == pytest.approx(96 / result["steps_per_s"], abs=1e-3)  # both are rounded
    folder = Path("runs/r")
    names = {"config.json", "code.json", "metrics.jsonl", "eval.csv", "checkpoints", "result.json"}
    assert {path.name for path in folder.iterdir()} == names  # and no lock
    config = json.loads((folder / "config.json").read_text())
    assert (config["algo"], config["env"], config["actions"], config["frame_skip"]) == ("ppo", "racing", "pedals", 2)
    assert (config["obs"], config["lap_rule"], config["num_envs"], config["device"]) == ("state", "all", 4, "cpu")
    assert "name" not in config
    code = json.loads((folder / "code.json").read_text())
    assert code["command"].startswith("drivetrain train ppo racing --num-envs 4")
    assert code["versions"]["torch"]
    assert "/" not in re.sub(r"\d+/\d+", "", json.dumps(code))  # no path at all


def test_every_logged_name_is_explained_and_the_glossary_lists_exactly_these(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "VALIDATION_EPISODES", 2)
    # long enough for episodes to end: a hopeless one ends after 100 frames without pay
    call(capsys, "train", "ppo", "racing", *TINY, "--steps", "320", "--name", "r", "--stop-at", "-1e4")
    found = {name for record in curve("r") for name in record} - {"seq", "step", "frames"}
    assert found
    assert found <= set(METRICS)
    rows = re.findall(r"^\| `(\S+)` \| (.+) \|$", (DOCS / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == METRICS
    assert len(rows) == len(METRICS)


def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "VALIDATION_EPISODES", 2)
    plan = [*TINY, "--steps", "256", "--eval-every", "64", "--seed", "3"]
    call(capsys, "train", "ppo", "racing", *plan, "--name", "whole")
    record = session.Session._record

    def stop_at_three(self: session.Session, *args: Any) -> None:
        record(self, *args)
        if self.state.seq == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(session.Session, "_record", stop_at_three)
    stopped = call(capsys, "train", "ppo", "racing", *plan, "--name", "parts", code=75)
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 96)
    monkeypatch.setattr(session.Session, "_record", record)
    assert call(capsys, "resume", "parts")["status"] == "done"
    assert bytes_of("parts") == bytes_of("whole")
    assert curve("parts") == curve("whole")
    assert Path("runs/parts/eval.csv").read_bytes() == Path("runs/whole/eval.csv").read_bytes()


# 3 cars that see pictures, 4 steps: 12 steps an update
SMALL_PICTURES = [
    "--obs",
    "pixels",
    "--num-envs",
    "3",
    "--num-steps",
    "4",
    "--num-minibatches",
    "2",
    "--num-tracks",
    "2",
]
SMALL_PICTURES += ["--hidden", "8", "--channels", "4,4", "--threads", "1", "--device", "cpu", "--frame-stack", "3"]


def test_a_driver_that_sees_pictures_trains_resumes_and_is_scored_in_both_worlds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # hopeless episodes end soon, so that stacks begin anew before and after the interruption
    plan = [*SMALL_PICTURES, "--eval-every", "none", "--desired-kl-end", "none", "--patience", "5"]
    plan += ["--gap-cost-start", "none"]
    call(capsys, "train", "ppo", "racing", *plan, "--steps", "48", "--name", "whole")
    call(capsys, "train", "ppo", "racing", *plan, "--steps", "24", "--name", "parts")
    assert call(capsys, "resume", "parts", "--steps", "48")["steps"] == 48
    assert bytes_of("parts") == bytes_of("whole")
    config = json.loads(Path("runs/whole/config.json").read_text())
    assert (config["encoder"], config["picture"], config["frame_stack"]) == ("cnn", "grey", 3)
    for env in ("racing", "CarRacing-v3"):
        scored = call(capsys, "evaluate", "whole", "--episodes", "1", "--env", env)
        assert (scored["env"], scored["episodes"]) == (env, 1)
        assert scored["scores"][0] < 900
    obs = RacingEnv("pixels", "pedals", 4, picture="grey", picture_size=64, frame_stack=3).observation_space.sample()
    from drivetrain.agents import load

    action, _ = load("runs/whole").predict(obs, deterministic=True)
    assert action.shape == (2,)


@pytest.mark.parametrize("obs", ["state", "pixels"])
def test_help_shows_the_preset_of_the_observation_asked_for(capsys: pytest.CaptureFixture[str], obs: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        train_main(["ppo", "racing", "--obs", obs, "--help"])
    page = " ".join(capsys.readouterr().out.split())
    encoder = "mlp" if obs == "state" else "cnn"
    assert f"cnn or resnet for pictures (default {encoder})" in page


class Noted:
    """Progress that notes whether it was closed: a live board that was not keeps the terminal's cursor."""

    def __init__(self) -> None:
        self.is_closed = False

    def show(self, snapshot: object) -> None: ...

    def note(self, text: str) -> None: ...

    ring = note

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    found = Noted()
    monkeypatch.setattr("drivetrain.progress.make_progress", lambda *_: found)
    return found


def test_a_signal_while_a_run_is_loaded_ends_it_as_any_other_interrupt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, noted: Noted
) -> None:
    call(capsys, "train", "ppo", "racing", *TINY, "--steps", "64", "--eval-every", "none", "--name", "r")
    build = learner.build_learner

    def interrupted(*options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return build(*options)

    monkeypatch.setattr(learner, "build_learner", interrupted)
    noted.is_closed = False
    result = call(capsys, "resume", "r", "--steps", "128", code=75)
    assert (result["status"], result["steps"]) == ("interrupted", 64)
    assert noted.is_closed


@pytest.mark.parametrize("verb", ["train", "resume"])
def test_a_session_that_cannot_begin_gives_the_terminal_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, noted: Noted, verb: str
) -> None:
    command = ["train", "ppo", "racing", *TINY, "--steps", "32", "--eval-every", "none", "--name", "r"]
    if verb == "resume":
        call(capsys, *command)
        command = ["resume", "r", "--steps", "64"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session, "MetricsFile", full)
    noted.is_closed = False
    assert main(command) == 6
    assert noted.is_closed


@pytest.mark.parametrize("core", ["gru", "transformer"])
def test_a_driver_with_memory_trains_resumes_and_is_scored_in_both_worlds(
    capsys: pytest.CaptureFixture[str], core: str
) -> None:
    argv = [
        "train",
        "ppo",
        "racing",
        *TINY,
        "--hide-motion",
        "--core",
        core,
        "--core-size",
        "8",
        "--eval-every",
        "none",
    ]
    call(capsys, *argv, "--steps", "96", "--name", "whole")
    call(capsys, *argv, "--steps", "32", "--name", "parts")
    call(capsys, "resume", "parts", "--steps", "96")
    assert bytes_of("whole") == bytes_of("parts")
    assert curve("whole") == curve("parts")
    config = json.loads(Path("runs/whole/config.json").read_text())
    assert (config["core"], config["hide_motion"]) == (core, True)
    for more in ([], ["--env", "CarRacing-v3"]):
        result = call(capsys, "evaluate", "whole", "--episodes", "1", *more)
        assert len(result["scores"]) == 1


def test_resume_extends_a_run_and_equals_the_longer_one(capsys: pytest.CaptureFixture[str]) -> None:
    # a schedule that runs over --steps would rightly differ between a short run and a long one
    steady = [*TINY, "--eval-every", "none", "--desired-kl-end", "none"]
    call(capsys, "train", "ppo", "racing", *steady, "--steps", "128", "--name", "long")
    call(capsys, "train", "ppo", "racing", *steady, "--steps", "64", "--name", "short")
    assert call(capsys, "resume", "short")["steps"] == 64  # nothing left to do
    assert call(capsys, "resume", "short", "--steps", "128")["steps"] == 128
    assert bytes_of("short") == bytes_of("long")
    assert json.loads(Path("runs/short/config.json").read_text())["steps"] == 128


def test_resume_does_not_shorten_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "train", "ppo", "racing", *TINY, "--eval-every", "none", "--steps", "50", "--name", "r")
    before = Path("runs/r/config.json").read_text()
    assert main(["resume", "r", "--steps", "49"]) == 2
    assert capsys.readouterr().err.startswith("error: the run is longer than that already; got --steps 49; allowed 50")
    assert Path("runs/r/config.json").read_text() == before
    assert call(capsys, "resume", "r", "--steps", "50")["steps"] == 64  # the second update of 32 went beyond the plan


def test_resume_passes_over_a_damaged_checkpoint_and_stops_without_a_valid_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = ["train", "ppo", "racing", *TINY, "--eval-every", "none", "--checkpoint-every", "32"]
    call(capsys, *run, "--steps", "96", "--name", "r")
    whole = bytes_of("r")
    (Path("runs/r/checkpoints/step_000000000096") / MODEL).write_bytes(b"torn")
    assert main(["resume", "r"]) == 0
    assert "step_000000000096 is damaged" in capsys.readouterr().out
    assert bytes_of("r") == whole
    assert [record["seq"] for record in curve("r")] == [1, 2, 3]
    for checkpoint in Path("runs/r/checkpoints").glob("step_*"):
        (checkpoint / VALUES).write_text("{}")
    assert main(["resume", "r"]) == 3
    assert capsys.readouterr().err.startswith("error: no valid checkpoint in runs/r/checkpoints")


def test_a_reached_target_ends_a_run_until_more_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fine(*args: Any) -> Scores:
        return Scores((1, 2), (500.0, 500.0), (9, 9), 0.0)

    monkeypatch.setattr("drivetrain.learner.play", fine)
    monkeypatch.setattr(session, "VALIDATION_EPISODES", 2)
    argv = ["train", "ppo", "racing", *TINY, "--name", "r", "--stop-at", "-1000", "--steps", "5000"]
    reached = call(capsys, *argv)
    assert (reached["status"], reached["score"]) == ("reached", 500.0)
    again = call(capsys, "resume", "r")
    assert (again["status"], again["steps"], again["score"]) == ("reached", reached["steps"], 500.0)
    further = call(capsys, "resume", "r", "--steps", str(reached["steps"] + 64))
    assert (further["status"], further["steps"]) == ("done", reached["steps"] + 64)


def test_a_run_can_begin_with_the_weights_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    run = ["train", "ppo", "racing", *TINY, "--eval-every", "none", "--steps", "32"]
    call(capsys, *run, "--name", "a")
    call(capsys, *run, "--name", "b", "--init-from", "a", "--checkpoint-every", "1")
    first = Path("runs/b/checkpoints/step_000000000000") / MODEL
    assert first.read_bytes() == bytes_of("a")[MODEL]
    wrong = [*run, "--name", "c", "--init-from", "a", "--hidden", "16"]
    assert main(wrong) == 2
    said = capsys.readouterr().err
    assert "another shape" in said
    assert "hidden [16] (there [8])" in said
    assert not Path("runs/c").exists()


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("backend", ["native", "sb3"])
def test_any_environment_is_trained_resumed_and_scored_by_either_backend(
    capsys: pytest.CaptureFixture[str], algo: str, backend: str
) -> None:
    sizes = {"ppo": ["--num-minibatches", "2"], "dqn": ["--learning-starts", "32", "--batch-size", "16"]}[algo]
    sizes += ["--num-envs", "4", "--num-steps", "8", "--hidden", "8", "--device", "cpu", "--checkpoint-every", "64"]
    options = [*sizes, "--backend", backend, "--eval-every", "none", "--seed", "3"]
    first = call(capsys, "train", algo, "CartPole-v1", *options, "--steps", "128", "--name", "r")
    assert (first["status"], first["score"]) == ("done", None)
    assert 128 <= first["steps"] < 192
    again = call(capsys, "resume", "r", "--steps", "256")
    assert 256 <= again["steps"] < 320
    scores = call(capsys, "evaluate", "r", "--episodes", "3", "--checkpoint", "last")
    assert (scores["env"], scores["failures"]) == ("CartPole-v1", sum(score < 475 for score in scores["scores"]))
    names = [json.loads(line) for line in Path("runs/r/metrics.jsonl").read_text().splitlines()]
    assert {name for record in names for name in record} - {"seq", "step", "frames", "seconds"} <= set(METRICS)


def test_a_run_begins_with_the_weights_of_a_zip_of_stable_baselines3(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--hidden", "8", "--no-shared-trunk"]
    options = [*shape, "--eval-every", "none", "--activation", "tanh", "--steps", "32"]
    call(capsys, "train", "ppo", "CartPole-v1", *options, "--name", "a")
    call(capsys, "export", "a", "--to", "sb3", "--out", "a.zip", "--plain")
    call(
        capsys,
        "train",
        "ppo",
        "CartPole-v1",
        *options,
        "--name",
        "b",
        "--init-from",
        "a.zip",
        "--learning-rate",
        "1e-9",
    )
    table = [call(capsys, "evaluate", name, "--episodes", "5")["scores"] for name in ("a", "b")]
    assert table[0] == table[1]


def test_what_python_saved_is_scored_and_resumed_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from drivetrain.agents import PPO, load

    PPO("racing", num_envs=4, num_steps=8, num_minibatches=2, num_tracks=2, hidden=(8,)).learn(64).save("runs/mine")
    assert call(capsys, "evaluate", "mine", "--episodes", "2")["episodes"] == 2
    assert call(capsys, "resume", "mine", "--steps", "128", "--threads", "1")["steps"] == 128
    action, memory = load("runs/mine").predict(np.zeros(OBS_SIZE), deterministic=True)
    assert action.shape == (2,)
    assert memory is None


def test_the_record_of_a_run_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "train", "ppo", "racing", *TINY, "--steps", "64", "--eval-every", "none", "--name", "a")
    call(capsys, "train", "ppo", "racing", "--config", "runs/a/config.json", "--name", "b")
    assert bytes_of("a") == bytes_of("b")


def test_two_processes_with_one_seed_end_with_equal_weights(tmp_path: Path) -> None:
    for name, hashing in (("a", "1"), ("b", "2")):  # nor does Python's random order of sets matter
        argv = [sys.executable, "-m", "drivetrain", "train", "ppo", "racing", *TINY, "--name", name]
        argv += ["--steps", "128", "--eval-every", "64", "--seed", "11"]
        environment = dict(os.environ, PYTHONHASHSEED=hashing)
        subprocess.run(argv, check=True, capture_output=True, cwd=tmp_path, env=environment)
    assert bytes_of("a") == bytes_of("b")
    assert curve("a") == curve("b")


def test_a_trained_run_is_scored_on_the_simulator_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "train", "ppo", "racing", *TINY, "--steps", "64", "--eval-every", "none", "--name", "r")
    scores = call(capsys, "evaluate", "r", "--episodes", "3", "--seed", "5", "--csv", "out.csv")
    assert (scores["env"], scores["episodes"], scores["seeds"]) == ("racing", 3, [5, 6, 7])
    assert scores["mean"] == pytest.approx(sum(scores["scores"]) / 3, abs=1e-3)
    assert {"sd", "min", "p10", "failures", "seconds"} <= set(scores)
    assert len(Path("out.csv").read_text().splitlines()) == 4
    (row,) = [row for row in call(capsys, "runs")["runs"] if row["run"] == "r"]
    assert (row["algo"], row["steps"], row["status"], row["best"]) == ("ppo", 64, "done", None)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, ["ALGO ENV", "drivetrain train ppo racing"]),
        (["pop", "racing"], 2, ["unknown algorithm", "got pop", "allowed ppo, dqn", "did you mean ppo"]),
        (["dqn", "Pendulum-v1"], 2, ["Discrete", "ppo"]),
        (["ppo", "racign"], 2, ["unknown environment", "got racign", "did you mean racing"]),
        (["ppo", "CartPol-v1"], 2, ["unknown environment", "did you mean CartPole-v1"]),
        (["ppo", "NoSuchPackage/World-v0"], 2, ["unknown environment", "--import MODULE"]),
        (["ppo", "racing", "--num-env", "3"], 2, ["did you mean --num-envs"]),
        (["ppo", "racing", "--num-envs", "zero"], 2, ["--num-envs must be a whole number"]),
        (["ppo", "racing", "--num-minibatches", "7"], 2, ["num_minibatches=7 must divide"]),
        (["ppo", "racing", "--hidden", "64,-5"], 2, ["--hidden: every layer needs 1 unit or more"]),
        (["ppo", "racing", "--hidden", "0"], 2, ["--hidden: every layer needs 1 unit or more"]),
        (["ppo", "racing", "--obs", "pixel"], 2, ["allowed state, lidar, pixels", "did you mean pixels"]),
        (["ppo", "racing", "--obs", "pixels", "--encoder", "mlp"], 2, ["the encoder mlp does not read pictures"]),
        (["ppo", "racing", "--encoder", "cnn"], 2, ["the encoder cnn does not read numbers", "take --encoder mlp"]),
        (["ppo", "racing", "--frame-stack", "3"], 2, ["--frame-stack is of no use with --obs state", "--obs pixels"]),
        (["ppo", "racing", "--crop"], 2, ["--crop is of no use with --obs state"]),
        (["ppo", "racing", "--obs", "pixels", "--beams", "5"], 2, ["--beams is of no use with --obs pixels"]),
        (["ppo", "racing", "--channels", "8"], 2, ["--channels is of no use with --encoder mlp"]),
        (["ppo", "racing", "--obs", "pixels", "--picture-size", "70"], 2, ["got 70", "allowed 64, 84, 96"]),
        (["ppo", "racing", "--core", "gru", "--num-envs", "4", "--num-minibatches", "8"], 2, ["made of whole lanes"]),
        (["dqn", "racing", "--core", "gru"], 2, ["core=gru needs buffer=none"]),
        (["ppo", "racing", "--core-layers", "2"], 2, ["--core-layers is of no use with --core none"]),
        (["ppo", "racing", "--trust"], 2, ["--trust is of no use without --init-from FILE.zip"]),
        (["ppo", "racing", "--obs", "pixels", "--channels", "8,8,8,8,8"], 2, ["too small for 5 convolutions"]),
        (["ppo", "racing", "--obs", "pixels", "--channels", "8,0"], 2, ["every layer needs 1 unit or more"]),
        (["ppo", "racing", "--obs", "pixels", "--num-envs", "1e8"], 8, ["out of memory", "num_envs 100000000"]),
        (["dqn", "racing", "--backend", "sb3", "--buffer", "none"], 2, ["without a replay"]),
        (["ppo", "racing", "--init-from", "nothing.zip"], 2, ["no such file", "nothing.zip"]),
        (["ppo", "racing", "--track", "wandb", "--project", "a/b"], 2, ["--project", "wandb refuses"]),
        (["ppo", "racing", "--env-args", "x=1"], 2, ["unknown option", "--env-args"]),
        (["ppo", "CartPole-v1", "--env-args", "x"], 2, ["--env-args holds no NAME=VALUE"]),
        (["ppo", "racing", "--import", "no_such_module"], 2, ["cannot import no_such_module", "No module named"]),
        (["ppo", "racing", "--import"], 2, ["--import needs a module"]),
        (["ppo", "racing", "--device", "tpu"], 2, ["allowed auto, cpu, cuda"]),
        (["ppo", "racing", "--init-from", "nobody"], 2, ["no such run", "got nobody"]),
        (["ppo", "racing", "--name", "expert"], 2, ["unsuitable run name"]),
        (["ppo", "racing", "--name", "/proc/nowhere/run"], 2, ["cannot write /proc/nowhere"]),
        (["ppo", "racing", "--num-envs", "1e9"], 8, ["out of memory", "num_envs 1000000000", "allowed up to about"]),
        (["ppo", "racing", "--num-tracks", "1e9"], 8, ["out of memory", "lower --num-tracks"]),
        (["ppo", "racing", "--hidden", "1000000,1000000"], 8, ["out of memory", "--hidden"]),
        (["ppo", "racing", "--config", "absent.toml"], 2, ["cannot read the config file absent.toml"]),
    ],
)
def test_wrong_input_is_one_line_a_code_and_nothing_left_behind(
    capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: list[str]
) -> None:
    assert main(["train", *argv]) == code
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err
    assert list(Path.cwd().iterdir()) == []


def test_cuda_where_there_is_none_is_refused_and_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["train", "ppo", "racing", "--device", "cuda"]) == 2
    assert "--device cpu" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


def test_an_existing_run_is_refused_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/r").mkdir(parents=True)
    Path("runs/r/precious").write_text("x")
    assert main(["train", "ppo", "racing", "--name", "r"]) == 2
    assert "drivetrain resume r" in capsys.readouterr().err
    assert Path("runs/r/precious").read_text() == "x"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["evaluate", "nobody"], ["no such run"]),
        (["evaluate", "expert", "--env", "CarRacing"], ["unknown environment", "CarRacing-v3"]),
        (
            ["evaluate", "expert", "--env", "CartPole-v1"],
            ["the expert cannot play CartPole-v1", "allowed racing, CarRacing-v3"],
        ),
        (["evaluate", "expert", "--actions", "macro"], ["the expert cannot drive"]),
        (["evaluate", "random", "--episodes", "0"], ["--episodes"]),
        (["evaluate", "random", "--csv", "/proc/x/y.csv"], ["cannot write"]),
        (["evaluate"], ["WHO is missing"]),
        (["resume", "nobody"], ["no such run"]),
        (["resume"], ["RUN is missing"]),
        (["compare", "a", "b"], ["no such run"]),
        (["bench"], ["not built yet"]),
        (["evalaute", "x"], ["unknown verb", "did you mean `drivetrain evaluate`"]),
        (["--steps", "5"], ["the verb comes first"]),
    ],
)
def test_wrong_input_to_other_verbs(capsys: pytest.CaptureFixture[str], argv: list[str], words: list[str]) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    for word in words:
        assert word in said


def test_under_json_an_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nobody", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["code"] == 2
    assert said.err.startswith("error: no such run")


def test_a_killed_trainer_can_be_resumed(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "drivetrain", "train", "ppo", "racing", *TINY, "--name", "r"]
    argv += ["--eval-every", "none", "--checkpoint-every", "32", "--steps", "1e9"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        while len(read_metrics(Path("runs/r/metrics.jsonl"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.kill()
    newest = choose_checkpoint(Path("runs/r/checkpoints"), "last", resumable=True)
    reached = len(read_metrics(Path("runs/r/metrics.jsonl"))) * 32
    assert reached - 64 <= newest.step <= reached  # at most the update being stored and the one after it
    assert main(["resume", "r", "--steps", str(newest.step + 64)]) == 0
    assert [record["seq"] for record in curve("r")] == list(range(1, newest.step // 32 + 3))


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = "import sys; from drivetrain.main import main; main(['--help']); "
    code += "print([m for m in ('torch', 'pydantic', 'numba', 'pygame', 'matplotlib', 'rich') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    learning = ("train", "pretrain", "resume", "sweep", "compare", "runs")
    for verb in (*learning, "evaluate", "watch", "record", "export", "parity", "doctor"):
        assert f"\n  {verb}" in out
    assert "bench" not in out


@pytest.mark.parametrize("verb", ["train", "resume", "evaluate", "runs", "compare", "doctor"])
def test_every_verb_has_a_help_page_without_torch(verb: str) -> None:
    code = f"import sys; from drivetrain.main import main; \ntry: main(['{verb}', '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith(f"usage: drivetrain {verb}")
    assert "(default" in out
    assert out.splitlines()[-1] == "False"


@pytest.mark.parametrize(("every", "retry"), [(None, 100_000), (15_000, 15_000), (250_000, 100_000)])
def test_a_missed_target_is_tried_again_no_later_than_the_next_validation(every: int | None, retry: int) -> None:
    assert make_plan(RunOptions(eval_every=every, stop_at=1.0), "CartPole-v1").retry_after == retry

"""The command `export`: graphs that drive as their runs do, complete or not at all."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch

from drivetrain.agents.agent import load
from drivetrain.envs import view
from drivetrain.envs.original import OriginalEnv
from drivetrain.envs.sim import SimConfig
from drivetrain.export import write_whole
from drivetrain.main import main
from drivetrain.policies import export
from drivetrain.rundir import SHIPPED

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
STATE, PIXELS = "racing-ppo-state", "racing-ppo-pixels"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The JSON object on the last line of stdout, and stderr."""
    assert main(["export", *argv, "--json"]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out.splitlines()[-1]), captured.err


def opened(path: str = "driver.onnx") -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    graph = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return graph, json.loads(Path(path + ".json").read_text())


def nothing_left() -> bool:
    return os.listdir() == []


@pytest.mark.conformance
@pytest.mark.parametrize("run", [STATE, PIXELS])
def test_the_graph_drives_as_the_run_does_and_its_page_fits_it(run, capsys):
    told, _ = call(capsys, run, "--to", "onnx", "--out", "driver.onnx")
    assert told["files"] == ["driver.onnx", "driver.onnx.json"]
    assert 0 < told["max_abs_error"] <= 1e-5
    assert sorted(os.listdir()) == ["driver.onnx", "driver.onnx.json"]
    graph, page = opened()
    assert page["max_abs_error"] == told["max_abs_error"]
    for side, ports in (("inputs", graph.get_inputs()), ("outputs", graph.get_outputs())):
        assert [(port["name"], port["shape"]) for port in page[side]] == [(port.name, port.shape) for port in ports]

    agent, env = load(SHIPPED / run), gymnasium.make(page["env"]["id"], **page["env"]["args"])
    assert page["observation_space"]["shape"] == list(env.observation_space.shape)
    assert page["action_space"]["low"] == float(env.action_space.low[0])
    memory, start = None, np.array([True])
    obs, _ = env.reset(seed=3)
    for _ in range(40):
        given = {"observation": obs[None]}
        if run == PIXELS:
            newest = obs[None, ..., -1:]
            memory = np.full_like(newest, 9) if memory is None else memory
            given = {"observation": newest, "memory": memory, "start": start}
        action, *rest = graph.run(None, given)
        memory, start = rest[0] if rest else None, np.array([False])
        np.testing.assert_allclose(action[0], agent.predict(obs, deterministic=True)[0], atol=1e-5)
        obs = env.step(action[0])[0]


@pytest.mark.conformance
def test_the_page_of_a_driver_of_numbers_explains_every_number(capsys):
    call(capsys, STATE, "--out", "driver.onnx")
    _, page = opened()
    elements = page["preprocessing"]["elements"]
    assert sum(element["size"] for element in elements) == page["inputs"][0]["shape"][1]
    assert elements[0]["unit"] == "u/s"
    assert page["action"][0].startswith("steering")
    assert (page["run"], page["algo"], page["env"]["frame_skip"]) == (STATE, "ppo", 2)
    assert page["step"] > 0


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.oracle
def test_the_preparation_in_the_documentation_is_the_one_of_the_driver(capsys):
    call(capsys, PIXELS, "--out", "driver.onnx")
    _, page = opened()
    words: dict[str, Any] = {}
    exec(blocks()[0].partition("graph =")[0], words)
    picture = torch.randint(0, 256, (4, 96, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    config = SimConfig(obs="pixels", picture="grey", picture_size=64)
    for one, wanted in zip(picture.numpy(), view.process(picture, config).numpy(), strict=True):
        assert words["prepare"](one)[0].tolist() == wanted.tolist()
    # and it is what the page says, too
    grey = page["preprocessing"]["grey"]
    said = [int(number) for number in re.findall(r"\d+", grey)]
    assert said == [*view.LUMA, 128, 8]
    assert page["preprocessing"]["size"] == [64, 64]
    assert page["preprocessing"]["frame_stack"] == 2


@pytest.mark.conformance
def test_the_example_in_the_documentation_drives_the_original_as_the_run_does(capsys, monkeypatch):
    call(capsys, PIXELS, "--out", "driver.onnx")
    decisions = 20
    made = gymnasium.make
    # the original would drive for 1,000 frames
    monkeypatch.setattr(gymnasium, "make", lambda name: made(name, max_episode_steps=4 * decisions))
    words: dict[str, Any] = {}
    exec(blocks()[0], words)
    agent, record = load(SHIPPED / PIXELS), json.loads((SHIPPED / PIXELS / "config.json").read_text())
    seen = {name: record[name] for name in ("obs", "actions", "frame_skip", "picture", "picture_size", "frame_stack")}
    env = OriginalEnv(**seen)
    obs, _ = env.reset(seed=0)
    score = 0.0
    for _ in range(decisions):
        obs, reward, *_ = env.step(agent.predict(obs, deterministic=True)[0])
        score += reward
    assert words["score"] == pytest.approx(score, abs=1e-3)


def test_what_is_there_is_replaced_only_by_force(capsys):
    Path("driver.onnx.json").write_text("mine")
    _, said = call(capsys, STATE, "--out", "driver.onnx", code=2)
    assert said == "error: driver.onnx.json exists; choose another --out, or replace it with --force\n"
    assert os.listdir() == ["driver.onnx.json"]
    assert Path("driver.onnx.json").read_text() == "mine"
    call(capsys, STATE, "--out", "driver.onnx", "--force")
    first = Path("driver.onnx").read_bytes()
    call(capsys, STATE, "--out", "driver.onnx", "--force")
    assert Path("driver.onnx").read_bytes() == first
    assert opened()[1]["run"] == STATE


def test_a_graph_that_is_no_copy_is_not_written(capsys, monkeypatch):
    monkeypatch.setattr(export, "largest_error", lambda *_: 2e-4)
    _, said = call(capsys, STATE, "--out", "driver.onnx", code=1)
    assert said.startswith("error: the graph does not decide as the network does; got 0.0002; allowed a difference up")
    assert nothing_left()


def test_a_number_that_is_none_is_no_small_difference(capsys, monkeypatch):
    monkeypatch.setattr(export, "largest_error", lambda *_: float("nan"))
    call(capsys, STATE, "--out", "driver.onnx", code=1)
    assert nothing_left()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(missing, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else found(name))
    _, said = call(capsys, STATE, "--out", "driver.onnx", code=2)
    assert f"got {missing}; run: pip install onnx onnxruntime" in said
    assert nothing_left()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([STATE], "--out is missing; allowed --out FILE"),
        (["--out", "a.onnx"], "RUN is missing"),
        (["expert", "--out", "a.onnx"], "only a run can be exported; got expert"),
        (["nobody", "--out", "a.onnx"], "no such run"),
        ([STATE, "--out", "gone/a.onnx"], "the folder gone does not exist; got gone/a.onnx; run: mkdir -p gone"),
        ([STATE, "--out", "."], "is a folder; name a file in it"),
        ([STATE, "--out", ""], "unsuitable name for a file"),
        ([STATE, "--out", "x" * 300], "unsuitable name for a file"),
        ([STATE, "--out", "a.onnx", "--to", "tflite"], "--to does not know this value; got tflite; allowed onnx, sb3"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(argv, words, capsys):
    _, said = call(capsys, *argv, code=2)
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
    assert nothing_left()


def test_files_are_written_whole_or_not_at_all(monkeypatch):
    Path("a").write_text("old")

    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_whole({Path("a"): b"new", Path("b"): b"new"})
    assert os.listdir() == ["a"]
    assert Path("a").read_text() == "old"

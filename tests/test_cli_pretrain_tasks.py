"""`pretrain function|sequence|classify`: what they print, the folder they leave, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivetrain.agents.checkpoint import choose_checkpoint, load_model
from drivetrain.agents.metrics import METRICS
from drivetrain.main import main
from drivetrain.rundir import read_json

KEYS = {"run", "status", "steps", "frames", "seconds", "eval_seconds", "wall_seconds", "steps_per_s", "score"}
QUICK = ["--steps", "30", "--eval-every", "10", "--hidden", "8", "--threads", "1", "--device", "cpu"]


def last_json(text: str) -> dict:
    return json.loads(text.splitlines()[-1])


def logged(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def is_png(file: Path) -> bool:
    return file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def function_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("function") / "sine"
    assert main(["pretrain", "function", *QUICK, "--samples", "100", "--name", str(path)]) == 0
    return path


def test_the_folder_of_a_function_holds_everything(function_run: Path) -> None:
    config = read_json(function_run / "config.json")
    assert (config["algo"], config["env"], config["steps"]) == ("function", "sin(x)", 30)
    assert set(read_json(function_run / "result.json")) >= KEYS
    assert is_png(function_run / "function.png") and is_png(function_run / "curve.png")
    records = logged(function_run)
    assert [record["step"] for record in records] == [0, 10, 20, 30]
    assert {"loss/train", "loss/validation", "loss/total", "diag/grad_norm"} <= set(records[-1])
    assert set(records[-1]) - {"seq", "step", "frames", "seconds"} <= set(METRICS)
    weights = load_model(choose_checkpoint(function_run / "checkpoints").path)
    assert set(weights) >= {"encoder.layers.0.weight", "head.outputs.bias", "scale.mean", "target_scale.size"}
    assert list((function_run / "tensorboard").iterdir())
    assert "command" in read_json(function_run / "code.json")


def test_a_run_repeats_itself_from_its_config(function_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    argv = ["pretrain", "function", "--config", str(function_run / "config.json"), "--name", str(again)]
    assert main(argv) == 0
    one, other = (load_model(choose_checkpoint(run / "checkpoints").path) for run in (function_run, again))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_table_of_two_outputs_gives_an_error_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text("t,up,down\n" + "".join(f"{k},{2 * k},{-3 * k}\n" for k in range(40)))
    argv = ["pretrain", "function", "--csv", str(table), *QUICK, "--name", str(tmp_path / "run"), "--json"]
    assert main([*argv, "--loss", "likelihood", "--encoder", "resmlp", "--dropout", "0.1"]) == 0
    result = last_json(capsys.readouterr().out)
    assert set(result) >= KEYS and result["status"] == "done" and result["frames"] == 30 * 32
    assert result["score"] == pytest.approx((result["errors"]["up"] + result["errors"]["down"]) / 2)


def test_early_stopping_ends_a_run_before_its_last_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["pretrain", "function", *QUICK, "--samples", "50", "--name", str(tmp_path / "run"), "--json"]
    # a rate that is far too small: no look but the first finds the validation loss lowered by anything that counts
    assert main([*argv, "--steps", "500", "--learning-rate", "1e-30", "--patience", "3"]) == 0
    result = last_json(capsys.readouterr().out)
    assert (result["status"], result["steps"]) == ("done", 30)


@pytest.mark.learning
def test_the_sine_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "function", "--name", str(tmp_path / "run"), "--device", "cpu", "--json"]) == 0
    assert last_json(capsys.readouterr().out)["score"] <= 1e-3


def test_an_interrupted_run_is_a_valid_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "drivetrain", "pretrain", "function", "--steps", "1e9", "--eval-every", "100"]
    process = subprocess.Popen(
        [*command, "--name", str(run), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 75
    result = last_json(out)
    assert result["status"] == "interrupted" and isinstance(result["score"], float)
    assert read_json(run / "result.json")["status"] == "interrupted"
    assert load_model(choose_checkpoint(run / "checkpoints").path)
    assert is_png(run / "function.png")


def test_training_that_diverges_ends_with_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["--optimizer", "sgd", "--learning-rate", "1e30", "--max-grad-norm", "none", "--warmup", "0"]
    argv = ["pretrain", "function", *QUICK, *wild, "--activation", "relu", "--name", str(tmp_path / "run"), "--json"]
    assert main(argv) == 4
    captured = capsys.readouterr()
    assert "training diverged" in captured.err and last_json(captured.out)["status"] == "diverged"


def test_pictures_in_folders_are_classified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    noise = np.random.default_rng(0)
    for name, side in (("left", 0), ("right", 4)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(20):
            levels = noise.integers(0, 100, (8, 8, 3), np.uint8)
            levels[:, side : side + 4] += 100
            Image.fromarray(levels).save(tmp_path / "data" / name / f"{k}.png")
    run = tmp_path / "run"
    augment = ["--mirror", "--mirror-labels", "left=right", "--shift", "1"]
    argv = ["pretrain", "classify", "--data", str(tmp_path / "data"), *QUICK, *augment, "--name", str(run), "--json"]
    assert main([*argv, "--channels", "4", "--learning-rate", "0.01"]) == 0
    result = last_json(capsys.readouterr().out)
    assert set(result) >= KEYS | {"validation_accuracy"} and result["score"] == 1.0
    assert is_png(run / "confusion.png") and is_png(run / "curve.png")
    assert (read_json(run / "config.json")["env"], read_json(run / "config.json")["mirror"]) == ("data", True)
    assert set(logged(run)[-1]) - {"seq", "step", "frames", "seconds"} <= set(METRICS)


def test_networks_are_compared_on_a_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = tmp_path / "series.csv"
    series.write_text("time,tide\n" + "".join(f"{k},{np.sin(k / 3)}\n" for k in range(500)))
    run = tmp_path / "run"
    names = ("mlp", "gru", "lstm", "transformer")
    argv = ["pretrain", "sequence", "--csv", str(series), *QUICK, "--piece", "8", "--core-size", "8", "--json"]
    assert main([*argv, "--models", ",".join(names), "--name", str(run)]) == 0
    captured = capsys.readouterr()
    result = last_json(captured.out)
    assert set(result) >= KEYS and set(result["errors"]) == set(names)
    assert result["score"] == min(result["errors"].values())
    assert is_png(run / "sequence.png") and is_png(run / "curve.png")
    assert set(logged(run)[-1]) - {"seq", "step", "frames", "seconds"} <= set(METRICS)
    assert {f"loss/validation_{name}" for name in names} <= set(logged(run)[-1])
    assert "last value" in captured.err and "of mlp" in captured.err
    weights = load_model(choose_checkpoint(run / "checkpoints").path)
    assert {name.partition(".")[0] for name in weights} == set(names)
    # a network is the same whichever others are trained beside it
    assert main([*argv, "--models", "gru", "--name", str(tmp_path / "alone")]) == 0
    alone = load_model(choose_checkpoint(tmp_path / "alone" / "checkpoints").path)
    assert all((weights[name] == alone[name]).all() for name in alone)


@pytest.mark.slow
@pytest.mark.learning
def test_memory_halves_the_error_of_a_network_that_sees_a_single_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "sequence", "--name", str(tmp_path / "run"), "--device", "cpu", "--json"]) == 0
    errors = last_json(capsys.readouterr().out)["errors"]
    assert errors["gru"] <= errors["mlp"] / 2 and errors["transformer"] <= errors["mlp"] / 2


def test_without_scikit_learn_the_line_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["pretrain", "classify"]) == 2
    assert "python -m pip install scikit-learn" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.learning
def test_digits_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "classify", "--name", str(tmp_path / "run"), "--device", "cpu", "--json"]) == 0
    assert last_json(capsys.readouterr().out)["score"] >= 0.985


TABLES = {
    "text.csv": "x,y\n1,2\n2,two\n",
    "nan.csv": "x,y\n1,2\n2,nan\n",
    "short.csv": "x,y\n1,2\n",
    "one.csv": "x\n" + "1\n" * 20,
    "flat.csv": "x,y\n" + "1,2\n" * 20,
    "empty.csv": "",
}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["function", "--formula", "sinn(x)"], "unknown name: sinn"),
        (["function", "--formula", "__import__('os')"], "unknown name: __import__"),
        (["function", "--formula", "log(x)"], "the formula has no value there; got nan"),
        (["function", "--low", "2", "--high", "1"], "low=2 must lie below high=1"),
        (["function", "--csv", "text.csv"], "line 3, column y holds no number; got 'two'"),
        (["function", "--csv", "nan.csv"], "line 3, column y is not finite"),
        (["function", "--csv", "short.csv"], "too few rows"),
        (["function", "--csv", "one.csv"], "too few columns"),
        (["function", "--csv", "flat.csv"], "the column x never changes"),
        (["function", "--csv", "empty.csv"], "is empty"),
        (["function", "--csv", "nowhere.csv"], "cannot read nowhere.csv"),
        (["function", "--csv", "text.csv", "--noise", "1"], "--noise is of no use with --csv"),
        (["function", "--encoder", "cnn"], "--encoder does not know this value"),
        (["function", "--huber-delta", "2"], "--huber-delta is of no use with --loss mse"),
        (["function", "--momentum", "0.5"], "--momentum is of no use with --optimizer adamw"),
        (["function", "--hidden", "0"], "--hidden: 1 layer or more is needed"),
        (["function", "--freeze", "core"], "this network has no core to freeze"),
        (["function", "--freeze", "encoder,head"], "everything is frozen"),
        (["function", "--precision", "bfloat16", "--device", "cpu"], "bfloat16 needs a GPU"),
        (["function", "--val-share", "1"], "--val-share"),
        (["function", "--steps", "0"], "--steps"),
        (["functoin"], "did you mean function"),
        (["sequence", "--csv", "text.csv"], "line 3, column y holds no number"),
        (["sequence", "--csv", "nan.csv"], "line 3, column y is not finite"),
        (["sequence", "--csv", "flat.csv"], "the column y never changes"),
        (["sequence", "--csv", "flat.csv", "--column", "z"], "no such column; got z; allowed x, y"),
        (["sequence", "--length", "100"], "the series is too short for its parts; got 100 values"),
        (["sequence", "--models", "mlp,rnn"], "--models: one or more of mlp, gru, lstm, transformer"),
        (["sequence", "--periods", "5,0"], "--periods: one period or more, each above 0"),
        (["sequence", "--core-size", "10"], "core_heads=4 must divide core_size=10"),
        (["sequence", "--models", "gru", "--window", "4"], "--window is of no use without mlp"),
        (["sequence", "--models", "gru", "--core-heads", "2"], "--core-heads is of no use without transformer"),
        (["sequence", "--column", "y"], "--column is of no use without --csv"),
        (["classify", "--data", "lonely.npz"], "the class 5 has one sample"),
        (["classify", "--data", "small.npz", "--channels", "4,4,4"], "picture 4x4 is too small for 3 convolutions"),
        (["classify", "--data", "text.csv"], "is no set of pictures"),
        (["classify", "--encoder", "mlp"], "--encoder does not know this value; got mlp; allowed cnn, resnet"),
        (["classify", "--mirror-labels", "3=8"], "--mirror-labels is of no use without --mirror"),
        (["classify", "--data", "small.npz", "--mirror", "--mirror-labels", "a=b"], "--mirror-labels names no class"),
        (["classify", "--labels", "small.npz"], "--labels is of no use without an .npy"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in TABLES.items():
        Path(name).write_text(text)
    np.savez("small.npz", x=np.zeros((8, 4, 4), np.uint8), y=np.arange(8) % 2)
    np.savez("lonely.npz", x=np.zeros((9, 4, 4), np.uint8), y=np.array([0] * 8 + [5]))
    assert main(["pretrain", *argv]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ") and said in error[-1]
    assert sorted(os.listdir()) == sorted([*TABLES, "small.npz", "lonely.npz"])


@pytest.mark.parametrize("task", ["function", "sequence", "classify"])
def test_help_imports_nothing_slow(task: str) -> None:
    code = (
        "import sys\nfrom drivetrain.main import main\n"
        f"try:\n    main(['pretrain', {task!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'matplotlib', 'sklearn', 'numba', 'PIL'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--learning-rate" in done.stdout and "Training:" in done.stdout


def test_the_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    out = capsys.readouterr().out
    assert all(f"  {task} " in out for task in ("function", "sequence", "classify", "imitate"))

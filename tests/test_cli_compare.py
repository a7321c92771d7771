"""``drivetrain compare``: which runs are meant, how they are put together, what is computed and drawn of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain import compare
from drivetrain.compare_curves import group_curve, last_until, places_of
from drivetrain.compare_groups import _stem, find_named, group_runs
from drivetrain.compare_runs import ComparedRun, Curve, Rule, score_run
from drivetrain.envs.errors import UserError
from drivetrain.main import main
from drivetrain.statistics import iqm

SETTINGS = {"version": "1", "algo": "ppo", "env": "CartPole-v1", "learning_rate": 0.1, "hidden": [64, 64], "steps": 300}


def make_run(
    name: str, scores: Sequence[float], *, settings: Mapping[str, Any] | None = None, status: str | None = "done",
    episodes: bool = True, seconds: float = 1.0,
) -> Path:  # fmt: skip
    """A run folder with a validation of four episodes at step 100, 200 …"""
    path = Path("runs") / name
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({**SETTINGS, "seed": 0, **(settings or {})}))
    lines, rows = [], ["step,set,seed,score,frames"]
    for number, score in enumerate(scores, 1):
        record = {"seq": number, "step": 100 * number, "frames": 100 * number, "seconds": seconds * number}
        lines.append(json.dumps(record | {"train/return": score / 2, "eval/mean": score, "eval/actions": [{"a": 1}]}))
        rows += [f"{100 * number},validation,{seed},{score + offset},9" for seed, offset in enumerate((-3, -1, 1, 3))]
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if episodes:
        (path / "eval.csv").write_text("\n".join(rows) + "\n")
    if status is not None:
        ended = {"status": status, "steps": 100 * len(scores), "score": scores[-1] if scores else None}
        (path / "result.json").write_text(json.dumps(ended))
    return path


@pytest.fixture(autouse=True)
def _in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drivetrain.rundir.SHIPPED", tmp_path / "nowhere")


def make_two_groups() -> None:
    for seed in range(5):
        make_run(f"slow-{seed}", [10.0, 20.0, 30.0 + seed], settings={"seed": seed})
        make_run(f"fast-{seed}", [50.0, 80.0, 90.0 + seed], settings={"seed": seed, "learning_rate": 0.5})


def run_of(steps: Sequence[float], values: Sequence[float], status: str = "done") -> ComparedRun:
    curve = Curve("eval/mean", np.array(steps, float), np.array(steps, float) / 10, np.array(values, float))
    return ComparedRun("r", Path("r"), "E", "E", "ppo", status, {}, curve, float(values[-1]))


def complaint(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        compare.main([*argv, "--out", "out"])
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the whole command -----------------------------------------------------------------------------------------------


def test_a_comparison_says_which_group_is_better_and_writes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    make_two_groups()
    assert main(["compare", "*", "--json"]) == 0
    said = capsys.readouterr()
    values = json.loads(said.out.splitlines()[-1])
    assert [group["group"] for group in values["groups"]] == ["learning-rate 0.5", "learning-rate 0.1"]
    # 90 … 94: the middle three are 91, 92, 93
    assert values["groups"][0]["iqm"] == pytest.approx(92.0)
    assert 90.0 <= values["groups"][0]["low"] < 92.0 < values["groups"][0]["high"] <= 94.0
    pair = values["pairs"][0]
    # every run of the one beats every run of the other: 2 of the 252 ways to deal ten runs do that
    assert (pair["probability"], pair["difference"], pair["verdict"]) == (1.0, pytest.approx(60.0), "better")
    assert pair["p"] == pytest.approx(2 / 252)
    run = next(run for run in values["runs"] if run["run"] == "fast-0")
    # its episodes are 87, 89, 91, 93: the middle two
    assert (run["score"], run["iqm"], run["group"], run["step"]) == (90.0, 90.0, "learning-rate 0.5", 300)
    assert run["low"] <= run["iqm"] <= run["high"]
    assert "learning-rate 0.5 is better than learning-rate 0.1" in said.err
    out = Path("runs/compare")
    names = {"curves.png", "verdict.png", "profile.png", "report.md", "compare.json", "runs.csv", "groups.csv"}
    assert names | {"pairs.csv"} == {path.name for path in out.iterdir()} == set(values["files"])
    assert json.loads((out / "compare.json").read_text())["groups"] == values["groups"]
    rows = list(csv.DictReader((out / "groups.csv").open()))
    assert float(rows[0]["iqm"]) == pytest.approx(92.0)
    assert rows[0]["runs"] == "fast-0 fast-1 fast-2 fast-3 fast-4"
    page = (out / "report.md").read_text()
    assert "![curves](curves.png)" in page
    assert "drivetrain compare '*'" in page


def test_equal_seeds_give_equal_files() -> None:
    make_two_groups()
    compare.main(["fast-*", "slow-*", "--out", "a"])
    compare.main(["fast-*", "slow-*", "--out", "b"])
    for name in ("compare.json", "verdict.png", "curves.png", "profile.png", "runs.csv"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_pictures_for_a_page_keep_their_letters_as_letters(kind: str) -> None:
    make_two_groups()
    compare.main(["*", "--out", "out", "--format", kind, "--width", "3.4"])
    picture = Path(f"out/verdict.{kind}").read_bytes()
    assert (b"learning-rate 0.5" in picture) if kind == "svg" else (b"/Type0" in picture and b"/Type3" not in picture)


def test_pictures_hold_twice_the_dots_of_a_screen() -> None:
    make_two_groups()
    compare.main(["*", "--out", "out", "--width", "7"])
    header = Path("out/curves.png").read_bytes()[:24]
    assert int.from_bytes(header[16:20], "big") == pytest.approx(7 * 220, abs=1)


def test_a_run_alone_is_shown_by_its_episodes(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("mine", [10.0, 20.0])
    result = compare.main(["mine"])
    assert result.values["groups"][0]["group"] == "mine"  # type: ignore[index]
    group = result.values["groups"][0]  # type: ignore[index]
    assert (group["iqm"], group["low"], group["high"]) == (20.0, None, None)
    run = result.values["runs"][0]  # type: ignore[index]
    assert run["iqm"] == 20.0
    assert run["low"] < 20.0 < run["high"]
    assert "name more to compare it with" in capsys.readouterr().out


# ---- which runs, which groups ----------------------------------------------------------------------------------------


def test_labels_patterns_and_names_are_groups() -> None:
    make_two_groups()
    named = find_named(["ours=fast-0,fast-1", "theirs=slow-*"])
    assert [(run.path.name, run.label) for run in named][:3] == [
        ("fast-0", "ours"), ("fast-1", "ours"), ("slow-0", "theirs"),
    ]  # fmt: skip
    # beside a label, other words are groups of their own
    assert {run.label for run in find_named(["ours=fast-0", "slow-*"])} == {"ours", "slow-*"}
    assert {run.label for run in find_named(["fast-0", "slow-*"])} == {None}


def test_brackets_may_belong_to_the_path_of_a_run() -> None:
    make_run("a", [1.0]).rename("b[1]")
    assert [(run.path.name, run.is_literal) for run in find_named(["./b[1]"])] == [("b[1]", True)]


def test_an_equals_sign_may_belong_to_the_name_of_a_run() -> None:
    make_run("lr=0.1", [1.0])
    assert [(run.path.name, run.label) for run in find_named(["lr=0.1"])] == [("lr=0.1", None)]
    assert [(run.path.name, run.label) for run in find_named(["low=lr=0.1"])] == [("lr=0.1", "low")]


def test_runs_that_differ_in_the_seed_alone_are_one_group() -> None:
    for seed in range(2):
        make_run(f"a-{seed}", [1.0], settings={"seed": seed, "device": "cpu", "tags": [str(seed)], "eval_every": seed})
        make_run(f"b-{seed}", [1.0], settings={"seed": seed, "hidden": [8], "norm": True})
    runs = [score_run(run.path, Rule()) for run in find_named(["*"])]
    assert {group.label: len(group.runs) for group in group_runs(runs, {}, ("auto",))} == {
        "hidden 64x64": 2,
        "hidden 8": 2,
    }


def test_groups_may_be_those_recorded_or_made_by_an_option() -> None:
    for seed in range(2):
        make_run(f"a-{seed}", [1.0], settings={"seed": seed, "group": "base", "num_envs": 8})
        make_run(f"b-{seed}", [1.0], settings={"seed": seed, "group": "wide", "num_envs": 8, "hidden": [9]})
    runs = [score_run(run.path, Rule()) for run in find_named(["*"])]
    assert [group.label for group in group_runs(runs, {}, ("auto",))] == ["base", "wide"]
    assert [group.label for group in group_runs(runs, {}, ("settings",))] == ["hidden 64x64", "hidden 9"]
    assert [group.label for group in group_runs(runs, {}, ("num-envs",))] == ["num-envs 8"]
    assert [group.label for group in group_runs(runs, {}, ("hidden", "algo"))] == ["hidden 64x64, ppo", "hidden 9, ppo"]
    assert len(group_runs(runs, {}, ("run",))) == 4


def test_one_recorded_group_for_all_is_that_of_a_sweep_and_parts_nothing() -> None:
    make_run("a", [1.0], settings={"group": "study"})
    make_run("b", [1.0], settings={"group": "study", "learning_rate": 0.7})
    runs = [score_run(run.path, Rule()) for run in find_named(["*"])]
    assert [group.label for group in group_runs(runs, {}, ("auto",))] == ["learning-rate 0.1", "learning-rate 0.7"]


def test_where_too_much_differs_groups_are_called_by_what_their_runs_are() -> None:
    other = {"learning_rate": 1, "hidden": [1], "steps": 9, "gamma": 1}
    for seed in range(2):
        make_run(f"tuned-{seed}", [1.0], settings={"seed": seed, "gamma": 0.5, **other})
        make_run(f"plain-{seed}", [1.0], settings={"seed": seed, "gamma": 0.9})
    runs = [score_run(run.path, Rule()) for run in find_named(["*"])]
    assert {group.label for group in group_runs(runs, {}, ("auto",))} == {"tuned", "plain"}


# ---- the score of a run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "stem"),
    [
        (["s-t003-s1", "s-t003-s2"], "s-t003"),
        (["s-t003-s10", "s-t003-s12"], "s-t003"),
        (["ppo_seed1", "ppo_seed2"], "ppo"),
        (["old-12", "old-13"], "old"),
        (["old12", "old13"], "old"),
        (["a", "b"], ""),
    ],
)
def test_a_stem_is_what_names_have_in_common_but_for_the_seed(names: list[str], stem: str) -> None:
    assert _stem(names) == stem


def test_the_score_is_the_last_validation_the_best_or_that_of_a_step() -> None:
    path = make_run("a", [10.0, 50.0, 30.0])
    assert score_run(path, Rule()).score == 30.0
    best = score_run(path, Rule("best"))
    assert (best.score, best.step, best.seconds) == (50.0, 200, 2.0)
    assert best.episodes is not None
    assert best.episodes.tolist() == [47.0, 49.0, 51.0, 53.0]
    assert score_run(path, Rule("train")).score == 15.0
    early = score_run(path, Rule(at=199))
    assert (early.score, early.step) == (10.0, 100)
    assert early.curve is not None
    assert early.curve.steps.tolist() == [100.0]


def test_a_run_that_stopped_at_its_target_is_judged_by_the_second_set() -> None:
    # the first set chose the moment to stop
    path = make_run("a", [10.0, 50.0])
    lines = (path / "metrics.jsonl").read_text().splitlines()
    (path / "metrics.jsonl").write_text(
        lines[0] + "\n" + json.dumps(json.loads(lines[1]) | {"eval/confirmed": 44.0}) + "\n"
    )
    with (path / "eval.csv").open("a") as file:
        file.write("200,confirmation,9,43,9\n200,confirmation,10,45,9\n")
    last = score_run(path, Rule())
    assert last.score == 44.0
    assert last.episodes is not None
    assert last.episodes.tolist() == [43.0, 45.0]
    # checkpoints are ranked by both sets
    assert score_run(path, Rule("best")).score == 47.0


def test_a_file_that_evaluate_wrote_may_be_the_score() -> None:
    path = make_run("a", [10.0])
    (path / "test.csv").write_text("seed,score,frames\n0,1.5,10\n1,2.5,10\n")
    run = score_run(path, Rule(csv="test.csv"))
    assert run.score == 2.0
    assert run.episodes is not None
    assert run.episodes.tolist() == [1.5, 2.5]
    assert "evaluate a --csv" in complaint("a", "--csv", "other.csv")


def test_training_returns_are_compared_where_nothing_was_validated(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        path = make_run(name, [1.0], episodes=False)
        records = [{"seq": 1, "step": 5, "frames": 5, "seconds": 1.0, "train/return": 7.0, "eval/mean": None}]
        (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert compare.main(["a", "b"]).values["groups"][0]["iqm"] == 7.0  # type: ignore[index]
    assert "training returns are compared" in capsys.readouterr().out


def test_errors_are_better_when_they_are_smaller() -> None:
    for seed in range(4):
        for name, error, width in (("narrow", 0.5, [4]), ("wide", 0.1, [64])):
            path = Path(f"runs/{name}-{seed}")
            path.mkdir(parents=True)
            task = {"algo": "function", "env": "sin(x)", "formula": "sin(x)", "low": -3.0, "high": 3.0}
            (path / "config.json").write_text(json.dumps(task | {"seed": seed, "hidden": width}))
            record = {"seq": 1, "step": 10, "frames": 10, "seconds": 1.0, "loss/validation": error**2}
            (path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
            (path / "result.json").write_text(json.dumps({"status": "done", "steps": 10, "score": error + seed / 100}))
    values = compare.main(["*"]).values
    assert [group["group"] for group in values["groups"]] == ["hidden 64", "hidden 4"]  # type: ignore[index,union-attr]
    pair = values["pairs"][0]  # type: ignore[index]
    assert pair["probability"] == 1.0
    assert pair["difference"] == pytest.approx(-0.4)
    assert "of no use" in complaint("wide-0", "--at", "5")
    assert "of no use" in complaint("wide-0", "--scale", "sin(x)=0:1")


# ---- curves ----------------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_a_run_counts_with_its_last_value_until_the_next() -> None:
    curve = Curve("eval/mean", np.array([10.0, 20.0]), np.array([1.0, 2.0]), np.array([5.0, 7.0]))
    assert last_until(curve, "steps", np.array([10.0, 19.0, 20.0, 99.0])).tolist() == [5.0, 5.0, 7.0, 7.0]
    assert math.isnan(last_until(curve, "seconds", np.array([0.5]))[0])


def test_nearly_equal_steps_are_one_place_of_a_curve() -> None:
    runs = [run_of([100 + k, 200 - k, 300 + k], [k, 2 * k, 3 * k]) for k in range(5)]
    curve = group_curve(runs, "steps", [np.array([[0, 1, 2, 3, 4]])])
    assert curve is not None
    assert curve.places.tolist() == [104.0, 200.0, 304.0]
    assert curve.value.tolist() == [2.0, 4.0, 6.0]


def test_a_curve_begins_where_all_runs_have_a_value() -> None:
    assert places_of([run_of([10, 90], [1, 1]), run_of([50, 90], [1, 1])], "steps")[0] == 50.0


def test_a_run_that_is_over_keeps_its_value_and_one_that_is_not_ends_the_curve() -> None:
    short, long = run_of([10, 20], [1, 9], "reached"), run_of([10, 20, 30, 40], [1, 2, 3, 4])
    assert places_of([short, long], "steps")[-1] == 40.0
    running = run_of([10, 20], [1, 9], "running")
    assert places_of([running, long], "steps")[-1] == 20.0


@pytest.mark.oracle
def test_a_curve_is_the_iqm_of_what_is_known_at_each_place() -> None:
    rng = np.random.default_rng(0)
    runs = [run_of(np.sort(rng.integers(0, 1000, 30)), rng.normal(size=30)) for _ in range(5)]
    curve = group_curve(runs, "seconds", [rng.integers(0, 5, (50, 5))])
    assert curve is not None
    for place, value in zip(curve.places, curve.value, strict=True):
        known = []
        for run in runs:
            assert run.curve is not None
            known.append([v for at, v in zip(run.curve.seconds, run.curve.values, strict=True) if at <= place][-1])
        assert value == pytest.approx(float(iqm(np.array(known))))


# ---- several environments --------------------------------------------------------------------------------------------


def test_several_environments_need_a_scale_and_all_groups_in_each() -> None:
    for seed in range(3):
        for algo, bonus in (("ppo", 0.0), ("dqn", 10.0)):
            make_run(f"{algo}-cart-{seed}", [50.0 + bonus + seed], settings={"algo": algo, "seed": seed})
            settings = {"algo": algo, "seed": seed, "env": "Acrobot-v1"}
            make_run(f"{algo}-acro-{seed}", [-100.0 + bonus + seed], settings=settings)
    assert "different environments" in complaint("*")
    scale = "CartPole-v1=0:100,Acrobot-v1=-200:0"
    values = compare.main(["*", "--scale", scale, "--out", "out"]).values
    best = values["groups"][0]  # type: ignore[index]
    # on the scale 0.60, 0.61, 0.62 and 0.55, 0.555, 0.56: without the lowest and the highest of the six
    assert (best["group"], best["n"]) == ("dqn", 6)
    assert best["iqm"] == pytest.approx((0.555 + 0.56 + 0.60 + 0.61) / 4)
    # at the target of 1, short by what is missing to it
    assert best["gap"] == pytest.approx(1 - (0.60 + 0.61 + 0.62 + 0.55 + 0.555 + 0.56) / 6)
    assert values["pairs"][0]["probability"] == 1.0  # type: ignore[index]
    assert "no run on Acrobot-v1" in complaint("a=dqn-*", "b=ppo-cart-*", "--scale", scale)
    assert "no two numbers for Acrobot-v1" in complaint("*", "--scale", "CartPole-v1=0:100")
    for ends in ("5:5", "-inf:1", "0:nan"):
        assert "LOW must lie below HIGH" in complaint("*", "--scale", f"CartPole-v1={ends},Acrobot-v1=0:1")


# ---- cautions --------------------------------------------------------------------------------------------------------


def test_a_reader_is_told_what_to_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("a-0", [1.0, 2.0])
    make_run("a-1", [1.0, 3.0, 4.0], settings={"seed": 1}, status=None)
    make_run("a-2", [1.0, 2.0])
    compare.main(["*", "--out", "out"])
    said = " ".join(capsys.readouterr().out.split())
    assert "not trained to the end, compared by what is there: a-1 (interrupted)" in said
    assert "different steps, 200 to 300" in said
    assert "fewer than 5 runs are too narrow" in said
    assert "no second opinion: a-0 and a-2" in said


def test_few_runs_however_far_apart_are_not_called_better() -> None:
    for seed in range(3):
        make_run(f"a-{seed}", [float(seed)], settings={"seed": seed})
        make_run(f"b-{seed}", [100.0 + seed], settings={"seed": seed, "gamma": 1})
    values = compare.main(["a=a-*", "b=b-*"]).values
    pair = values["pairs"][0]  # type: ignore[index]
    # all 9 pairs are won, and still 2 of the 20 ways to deal six runs are as clear
    assert (pair["probability"], pair["low"], pair["p"], pair["verdict"]) == (1.0, 1.0, pytest.approx(0.1), "unsure")


def test_times_to_a_target_count_runs_that_never_came_there() -> None:
    make_run("a-0", [10.0, 60.0, 70.0])
    make_run("a-1", [55.0, 60.0, 70.0], settings={"seed": 1})
    make_run("a-2", [10.0, 20.0, 30.0], settings={"seed": 2})
    group = compare.main(["*", "--target", "55"]).values["groups"][0]  # type: ignore[index]
    assert (group["reached"], group["steps_to_target"], group["seconds_to_target"]) == (2, 200.0, 2.0)
    assert group["steps_high"] == math.inf
    # short by 0, 0 and 25
    assert group["gap"] == pytest.approx(25 / 3)


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_says_what_to_do() -> None:
    make_run("alpha", [1.0])
    make_run("beta", [1.0], settings={"env": "Acrobot-v1"})
    make_run("empty", [], status=None)
    (Path("runs/plain")).mkdir()
    path = make_run("trained", [1.0])
    record = {"seq": 1, "step": 5, "frames": 5, "seconds": 1.0, "train/return": 7.0}
    (path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert "WHO is missing" in complaint()
    assert "did you mean alpha?" in complaint("alpga")
    assert "no run fits the pattern" in complaint("alpga*")
    assert "no config.json" in complaint("plain")
    assert "different environments; got CartPole-v1, Acrobot-v1" in complaint("alpha", "beta")
    assert "named twice; got in alpha and in x=alpha" in complaint("alpha", "x=alpha")
    assert "named twice; got twice in alpha" in complaint("alpha", "alpha")
    assert "empty has no metrics" in complaint("alpha", "empty")
    assert "trained has no validation" in complaint("alpha", "trained")
    assert "no validation up to step 50" in complaint("alpha", "--at", "50")
    assert "a label and runs" in complaint("x=")
    assert "no run has such an option; got learning-rat; did you mean learning_rate?" in complaint(
        "alpha", "--by", "learning-rat"
    )
    assert "trained without --group" in complaint("alpha", "--by", "group")
    assert "--out is a run folder" in str(_refusal(["alpha", "--out", "runs/alpha"]))
    assert "cannot write" in str(_refusal(["alpha", "--out", "runs/alpha/config.json"]))
    assert not Path("out").exists()  # what is refused leaves nothing behind
    assert "brings its own scores" in complaint("alpha", "--csv", "x.csv", "--score", "best")
    assert "name of a file" in complaint("alpha", "--csv", "../x.csv")


def _refusal(argv: list[str]) -> UserError:
    with pytest.raises(UserError) as caught:
        compare.main(argv)
    return caught.value


def test_a_pattern_leaves_out_what_has_no_score_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("a-0", [1.0])
    make_run("a-1", [], status=None)
    values = compare.main(["a-*"]).values
    assert [run["run"] for run in values["runs"]] == ["a-0"]  # type: ignore[union-attr]
    assert "left out, without a score: a-1" in capsys.readouterr().out


def test_a_refused_comparison_leaves_an_older_one_as_it_was() -> None:
    make_run("alpha", [1.0])
    compare.main(["alpha", "--out", "out"])
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    complaint("alpha", "alpha")
    assert before == {path.name: path.read_bytes() for path in Path("out").iterdir()}


def test_the_verb_loads_neither_torch_nor_scipy() -> None:
    import subprocess
    import sys

    make_two_groups()
    code = (
        "import sys; from drivetrain.main import main; main(['compare', 'fast-*', 'slow-*']); "
        "print([name for name in ('torch', 'scipy', 'wandb', 'pygame') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_of_many_groups_the_best_are_spelled_out_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    for rate in range(9):
        for seed in range(2):
            make_run(f"r-{rate}-{seed}", [10.0 * rate + seed], settings={"learning_rate": rate, "seed": seed})
    values = compare.main(["*", "--out", "out"]).values
    # the best against each of the others, not all 36 pairs
    assert [pair["a"] for pair in values["pairs"]] == ["learning-rate 8"] * 8  # type: ignore[union-attr]
    said = " ".join(capsys.readouterr().out.split())
    assert "learning-rate 8 is the best of 9: IQM 80.5" in said
    assert "than learning-rate 7, learning-rate 6, learning-rate 5, learning-rate 4 and 4 more" in said
    assert "partly the luckiest" in said
    assert "show the best 7 of 9 groups" in said


def test_a_narrow_terminal_gets_the_columns_that_matter_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from rich.console import Console

    make_two_groups()
    monkeypatch.setattr("drivetrain.compare_report.console", lambda: Console(file=sys.stdout, width=80))
    compare.main(["fast=fast-*", "slow=slow-*"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["group", "runs", "IQM", "95", "%", "steps", "to", "it"]
    assert lines[1].split()[:3] == ["fast", "5", "92.0"]
    assert "…" not in "".join(lines)
    assert max(len(line.rstrip()) for line in lines[:-1]) <= 80  # the last names files, and is not broken


def test_curves_of_very_different_lengths_get_a_logarithmic_axis() -> None:
    make_run("quick", [1.0, 2.0], seconds=1.0)
    make_run("lasting", [1.0, 2.0], seconds=50.0)
    compare.main(["quick", "lasting", "--by", "run", "--format", "svg", "--out", "out"])
    picture = Path("out/curves.svg").read_text()
    assert all(f">{tick}<" in picture for tick in ("1", "10", "100"))

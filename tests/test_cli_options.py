"""Flags, config files and their errors, on a small model of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, from_record, parse


class Learning(Options):
    """Learning"""

    num_envs: int = Field(1024, ge=1, description="cars at once")
    learning_rate: float = Field(3e-4, gt=0, description="step size of Adam")
    target_kl: float | None = Field(0.02, description="stop an update beyond this KL, nats; none = never")
    anneal: bool = Field(True, description="lower the rate to zero")
    hidden_sizes: tuple[int, ...] = Field((64, 64), description="widths of the hidden layers")
    actions: Literal["pedals", "macro"] = Field("pedals", description="what it can do")
    stop_at: float | None = Field(None, description="score to end at")
    name: str | None = Field(None, description="name of the run")
    core: Literal["none"] = Field("none", json_schema_extra={"hidden": True})
    env_args: dict[str, Any] = Field({}, description="arguments for the environment")


SPEC: Spec[Any] = Spec(
    Learning,
    "drivetrain train ppo ENV",
    "Train.",
    positionals=("env",),
    config=True,
    preset=lambda _asked: {"num_envs": 512, "actions": "macro"},
    file_extras=("algo",),
)


def options(*argv: str) -> Any:
    return parse(SPEC, ["racing", *argv]).options


def complaint(*argv: str) -> str:
    with pytest.raises(UserError) as error:
        parse(SPEC, list(argv))
    assert error.value.code == 2
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("text", ["gravity=-5,wind=true,name=calm", '{"gravity": -5, "wind": true, "name": "calm"}'])
def test_a_map_is_written_as_pairs_or_as_json(text: str) -> None:
    assert options("--env-args", text).env_args == {"gravity": -5, "wind": True, "name": "calm"}


@pytest.mark.parametrize("text", ["gravity", "=3", "{gravity: 3", "[1]"])
def test_what_is_no_map_is_refused_and_told_how_to_write_one(text: str) -> None:
    assert "a=1,b=text" in complaint("racing", "--env-args", text)


def test_flags_are_the_fields_in_kebab_case() -> None:
    got = options(
        "--num-envs", "8", "--learning-rate=1e-3", "--hidden-sizes", "32,16", "--no-anneal", "--stop-at", "-5"
    )
    assert (got.num_envs, got.learning_rate, got.hidden_sizes, got.anneal, got.stop_at) == (
        8,
        1e-3,
        (32, 16),
        False,
        -5,
    )


@pytest.mark.parametrize(("text", "value"), [("1e6", 1_000_000), ("5_000", 5000), ("7", 7), ("2.0", 2)])
def test_whole_numbers_may_be_written_in_scientific_notation(text: str, value: int) -> None:
    assert options("--num-envs", text).num_envs == value


def test_none_is_a_word_for_no_value_and_stays_a_word_where_it_is_a_choice() -> None:
    got = options("--target-kl", "none", "--core", "none")
    assert got.target_kl is None
    assert got.core == "none"


def test_switches_take_true_and_false_and_the_last_one_wins() -> None:
    assert options("--anneal=false").anneal is False
    assert options("--no-anneal", "--anneal").anneal is True


@pytest.mark.parametrize(
    ("suffix", "text"), [(".toml", "num_envs = {}\ntarget_kl = 'none'"), (".yaml", "num_envs: {}\ntarget_kl: null")]
)
def test_precedence_is_default_preset_file_flag(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"c{suffix}"
    file.write_text(text.format(256))
    assert options().num_envs == 512
    assert options().actions == "macro"
    assert options("--config", str(file)).num_envs == 256
    assert options("--config", str(file)).target_kl is None
    parsed = parse(SPEC, ["racing", "--config", str(file), "--num-envs", "16"])
    assert parsed.options.num_envs == 16
    assert [parsed.source[k] for k in ("num_envs", "target_kl", "actions", "anneal")] == [
        "flag",
        "file",
        "preset",
        "default",
    ]


def test_yaml_numbers_that_arrive_as_text_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("learning_rate: 1e-3\nnum_envs: 1e2\nhidden_sizes: [8, 8]\nanneal: no\n")
    got = options("--config", str(file))
    assert (got.learning_rate, got.num_envs, got.hidden_sizes, got.anneal) == (1e-3, 100, (8, 8), False)


@pytest.mark.parametrize("line", ["num_envs: true", "learning_rate: no", "name: yes"])
def test_a_switch_where_another_value_belongs_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(line)
    assert "is no switch" in complaint("racing", "--config", str(file))


def test_the_record_of_a_run_can_be_used_as_a_config_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"algo": "ppo", "num_envs": 4, "target_kl": null}')
    parsed = parse(SPEC, ["racing", "--config", str(file)])
    assert parsed.options.num_envs == 4
    assert parsed.extras == {"algo": "ppo"}
    assert from_record(SPEC, {"algo": "ppo", "num_envs": 9}, file).num_envs == 9


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["racing", "--num-env", "8"], ["unknown option", "got --num-env", "did you mean --num-envs"]),
        (["racing", "--num_envs", "8"], ["unknown option", "did you mean --num-envs"]),
        (["racing", "-n", "8"], ["two dashes"]),
        (["racing", "--num-envs"], ["--num-envs needs a value"]),
        (["racing", "--num-envs", "--anneal"], ["--num-envs needs a value"]),
        (["racing", "--num-envs", "many"], ["--num-envs must be a whole number", "got many"]),
        (["racing", "--num-envs", "1.5"], ["whole number", "got 1.5"]),
        (["racing", "--num-envs", "1e999"], ["whole number"]),
        (["racing", "--num-envs", "0"], ["--num-envs", "greater than or equal to 1", "got 0"]),
        (["racing", "--learning-rate", "nan"], ["finite"]),
        (["racing", "--learning-rate", "fast"], ["--learning-rate must be a number", "got fast"]),
        (["racing", "--anneal=maybe"], ["switch", "allowed --anneal, --no-anneal"]),
        (["racing", "--actions", "pedal"], ["allowed pedals, macro", "did you mean pedals"]),
        (["racing", "fast"], ["one word too many", "got fast"]),
        ([], ["ENV is missing", "usage: drivetrain train ppo ENV"]),
    ],
)
def test_wrong_input_says_what_got_and_how_to_fix_it(argv: list[str], words: list[str]) -> None:
    text = complaint(*argv)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.toml", "num_env = 3", ["unknown key", "got num_env", "did you mean num_envs"]),
        ("c.toml", "num_envs = 'many'", ["num_envs in", "whole number"]),
        ("c.toml", "num_envs = -1", ["num_envs in", "got -1"]),
        ("c.toml", "num_envs = [1, 2]", ["num_envs in"]),
        ("c.toml", "learning_rate = nan", ["finite"]),
        ("c.toml", "num_envs = ", ["not well formed"]),
        ("c.toml", "[num_envs]\na = 1", ["num_envs in"]),
        ("c.yaml", "num_envs: [", ["not well formed"]),
        ("c.yaml", "- 1\n- 2", ["no list of settings"]),
        ("c.yaml", "1: 2", ["no list of settings"]),
        ("c.yaml", "a: !!python/object/apply:os.system ['echo no']", ["not well formed"]),
        ("c.yaml", "[" * 5000, ["not well formed"]),
        ("c.ini", "num_envs = 3", ["unknown kind of config file"]),
        ("c.toml", "#" * 1_100_000, ["too large"]),
    ],
)
def test_a_wrong_config_file_is_refused(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    (tmp_path / name).write_text(text)
    said = complaint("racing", "--config", str(tmp_path / name))
    for word in words:
        assert word in said


def test_a_bomb_of_aliases_costs_neither_memory_nor_a_long_line(tmp_path: Path) -> None:
    lines = ["num_envs:", "- &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]  # 9^12 items when written out
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    assert len(complaint("racing", "--config", str(tmp_path / "c.yaml"))) < 500


@pytest.mark.parametrize("path", ["absent.toml", "."])
def test_a_config_file_that_cannot_be_read_is_named(path: str) -> None:
    assert "cannot read the config file" in complaint("racing", "--config", path)


def test_help_explains_every_option_that_exists_and_hides_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        parse(SPEC, ["--help"])
    assert leaving.value.code == 0
    page = capsys.readouterr().out
    words = [
        "Learning:",
        "--num-envs N",
        "(default 512)",
        "nats; none = never (default 0.02)",
        "--anneal / --no-anneal",
    ]
    for word in [*words, "(default 64,64)", "--actions pedals|macro", "--stop-at X", "--config FILE", "--json"]:
        assert word in page
    assert "--core" not in page
    assert "video" not in page

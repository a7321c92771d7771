"""What a sweep searches: ranges from the fields of a config, from the table, and from the user."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from drivetrain.envs.errors import UserError
from drivetrain.options import parse
from drivetrain.sweep_space import TUNED, Dimension, as_flags, build_space, moved_inside, used_value
from drivetrain.train import RunOptions, train_spec

ROOT = Path(__file__).resolve().parent.parent


def space_of(
    algo: str = "ppo", env: str = "CartPole-v1", tune: tuple = (), ranges: dict | None = None, fixed: dict | None = None
) -> dict[str, Dimension]:
    spec = train_spec(algo, env)
    defaults = parse(spec, as_flags(fixed or {})).options.model_dump()
    fields = {name: info for name, info in spec.model.model_fields.items() if name not in RunOptions.model_fields}
    return build_space(algo, fields, defaults, tune, ranges or {}, fixed or {})


@pytest.mark.golden
def test_a_range_follows_from_the_field_and_its_default() -> None:
    # anchor_margin: 0.05, above 0 -> a decade either way, 0.005 to 0.5; eps_ladder has no width around its default 0
    space = space_of(
        "dqn", "racing", tune=("anchor-margin", "tau", "priority_alpha", "update-epochs", "double", "loss")
    )
    assert str(space["anchor_margin"]) == "0.005:0.5:log"
    assert str(space["tau"]) == "0.001:0.1:log"  # 0.01, above 0, at most 1
    assert str(space["priority_alpha"]) == "0:1"  # the field itself has both ends
    assert str(space["update_epochs"]) == "1:6"  # 2 epochs: one by one, up to three times as many
    assert space["double"].choices == (True, False)
    assert space["loss"].choices == ("huber", "mse")


@pytest.mark.golden
def test_a_large_whole_number_is_searched_by_doubling() -> None:
    # 1024 environments: a quarter, a half, itself, twice, four times
    fixed = {"num_steps": 32}
    space = space_of(env="Acrobot-v1", tune=("num-envs",), fixed=fixed)
    default = parse(train_spec("ppo", "Acrobot-v1"), []).options.num_envs
    assert space["num_envs"].choices == tuple(default * part // 4 for part in (1, 2, 4, 8, 16))


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("env", ["racing", "CartPole-v1", "MountainCar-v0"])
def test_every_edge_of_the_default_space_can_be_trained(algo: str, env: str) -> None:
    spec = train_spec(algo, env)
    space = space_of(algo, env)
    assert set(space) == set(TUNED[algo])
    for name, dimension in space.items():
        for value in dimension.choices or (dimension.low, dimension.high):
            assert getattr(parse(spec, as_flags({name: value})).options, name) == value


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("env", ["racing", "CartPole-v1", "LunarLander-v3"])
def test_the_first_trial_is_the_default(algo: str, env: str) -> None:
    defaults = parse(train_spec(algo, env), []).options
    first = {name: moved_inside(dimension, getattr(defaults, name)) for name, dimension in space_of(algo, env).items()}
    assert first == {name: getattr(defaults, name) for name in first}


def test_what_is_fixed_is_not_tuned() -> None:
    assert "gamma" not in space_of(fixed={"gamma": 0.98})
    with pytest.raises(UserError, match="--gamma is fixed and tuned"):
        space_of(tune=("gamma",), fixed={"gamma": 0.98})


def test_a_range_of_the_user_stands_as_written_even_without_the_default() -> None:
    space = space_of(ranges={"learning-rate": "1e-5:1e-4:log", "hidden": "64x64/256x256", "activation": "relu/elu"})
    assert (space["learning_rate"].low, space["learning_rate"].high) == (1e-5, 1e-4)
    assert space["hidden"].choices == ("64,64", "256,256")
    assert space["activation"].choices == ("relu", "elu")
    assert set(TUNED["ppo"]) | {"hidden", "activation"} == set(space), "a range adds to the default set"
    assert moved_inside(space["learning_rate"], 3e-3) == 1e-4
    assert moved_inside(space["hidden"], (64, 64)) == "64,64"


def test_tune_and_range_together_are_exactly_the_space() -> None:
    assert list(space_of(tune=("gamma",), ranges={"clip-coef": "0.1:0.3"})) == ["gamma", "clip_coef"]


@pytest.mark.parametrize(
    ("tune", "ranges", "said"),
    [
        (("gama",), {}, "did you mean gamma"),
        ((), {"learning-rat": "1:2"}, "did you mean learning-rate"),
        ((), {"gamma": "0.9:1.5"}, "--gamma cannot be this; got 1.5; allowed from 0 to 1"),
        ((), {"learning-rate": "0:1"}, "got 0; allowed above 0"),
        ((), {"ent-coef": "0:1:log"}, "cannot be logarithmic from 0"),
        ((), {"gamma": "0.9"}, "leaves no choice"),
        ((), {"gamma": "0.99:0.9"}, "must rise"),
        ((), {"gamma": "0.9:0.99:lin"}, "not understood"),
        ((), {"gamma": "0.9:much"}, "needs a number"),
        ((), {"num-steps": "8:12.5"}, "needs a whole number"),
        ((), {"activation": "relu/tahn"}, "did you mean tanh"),
        ((), {"activation": "1:2"}, "has no low and high"),
        ((), {"norm-adv": "yes/no"}, "--norm-adv is a switch"),
        ((), {"gamma": "0.9/0.9"}, "a choice twice"),
        (("target-kl",), {}, "no range follows from --target-kl"),
    ],
)
def test_a_bad_space_is_named_in_one_line(tune: tuple, ranges: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        space_of(tune=tune, ranges=ranges)
    assert "\n" not in str(caught.value)


@pytest.mark.golden
def test_values_are_short_enough_to_type_and_stay_inside() -> None:
    rate = Dimension(kind="float", low=1e-4, high=1e-2, log=True)
    assert used_value(rate, 0.00123456789) == 0.0012346
    assert used_value(rate, 0.00999999999) == 0.01
    edge = Dimension(kind="float", low=0.1, high=0.99999949)
    assert used_value(edge, 0.99999949) == 0.99999949, "rounding must not leave the range"


def test_flags_say_what_every_kind_of_option_needs() -> None:
    values = {"norm_adv": False, "crop": True, "hidden": [64, 64], "stop_at": None, "env_args": {"a": 1}, "gamma": 0.9}
    expected = ["--no-norm-adv", "--crop", "--hidden", "64,64", "--stop-at", "none", "--env-args", '{"a": 1}']
    assert as_flags(values) == [*expected, "--gamma", "0.9"]


@pytest.mark.conformance
def test_the_sweep_file_for_wandb_holds_only_options_that_train_takes() -> None:
    plan = yaml.safe_load((ROOT / "examples" / "wandb_sweep.yaml").read_text())
    words = plan["command"]
    assert words[:4] == ["drivetrain", "train", "ppo", "racing"]
    assert words[-1] == "${args}"
    assert plan["metric"] == {"name": "eval/mean", "goal": "maximize"}
    spec = train_spec("ppo", "racing")
    space = space_of("ppo", "racing")
    for name, entry in plan["parameters"].items():
        ends = entry.get("values") or [entry["min"], entry["max"]]
        for value in ends:
            # wandb writes --name=value
            options = parse(spec, [*words[4:-1], f"--{name}={value}"]).options
            assert getattr(options, name.replace("-", "_")) == value
        dimension = space[name.replace("-", "_")]
        assert tuple(ends) == (dimension.choices or (dimension.low, dimension.high)), f"{name} is not as in our space"

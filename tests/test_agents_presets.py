"""Presets: files that hold only options that exist, for algorithms and environments that exist."""

from pathlib import Path

import pytest

import drivetrain.agents.presets as presets
from drivetrain.agents.config import ORIGINAL, RACING
from drivetrain.agents.presets import preset, preset_file, reached
from drivetrain.options import parse
from drivetrain.train import train_spec

FILES = sorted(Path(presets.__file__).parent.glob("preset_*.toml"))


def cell(file: Path) -> tuple[str, str]:
    """Algorithm and environment of a preset file."""
    _, algo, env = file.stem.split("_", 2)
    family, dash, rest = env.partition("-")
    return algo, f"{family}/{rest}" if family == "ALE" and dash else env


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_of_a_preset_exists_and_is_in_its_range(file):
    algo, env = cell(file)
    assert preset_file(algo, env) == file
    assert reached(algo, env)
    spec = train_spec(algo, env)
    for obs in ("state", "pixels") if env in (RACING, ORIGINAL) else (None,):
        asked = {} if obs is None else {"obs": obs}
        unknown = set(preset(algo, env, asked)) - set(spec.model.model_fields)
        assert not unknown, unknown
        parsed = parse(spec, [] if obs is None else ["--obs", obs])
        wanted = preset(algo, env, asked) | asked
        assert {name: getattr(parsed.options, name) for name in wanted} == wanted


def test_what_was_asked_for_chooses_the_part_for_pictures():
    state, pixels = (preset("ppo", RACING, asked) for asked in ({}, {"obs": "pixels"}))
    assert "encoder" not in state
    assert pixels["encoder"] == "cnn"
    assert pixels["channels"] == (16, 32, 32)
    assert pixels["actions"] == state["actions"]


def test_random_colours_have_a_part_of_their_own():
    plain, colours = (preset("imitate", RACING, {"obs": "pixels", "domain_randomize": on}) for on in (False, True))
    assert {name for name in plain if plain[name] != colours[name]} == {"steps", "eval_every", "picture"}
    assert colours["picture"] == "rgb"


def test_networks_that_remember_have_a_part_of_their_own():
    plain, gru = (preset("imitate", RACING, {"core": core}) for core in ("none", "gru"))
    assert {name for name in gru if gru[name] != plain.get(name)} == {"steps", "eval_every", "batch_size"}


def test_what_is_seen_goes_before_what_remembers():
    asked = {"obs": "pixels", "core": "gru"}
    assert preset("ppo", RACING, asked)["num_envs"] == preset("ppo", RACING, {"obs": "pixels"})["num_envs"]
    colours = {"obs": "pixels", "domain_randomize": True}
    assert preset("imitate", RACING, colours | {"core": "gru"})["steps"] == preset("imitate", RACING, colours)["steps"]


def test_an_environment_without_a_preset_has_none_and_an_id_cannot_leave_the_folder():
    assert preset("ppo", "Blackjack-v1", {}) == {}
    assert reached("ppo", "Blackjack-v1") is None
    assert preset("ppo", "../../etc/x", {}) == {}

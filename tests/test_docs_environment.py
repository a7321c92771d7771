"""The environment's specification says what the code does."""

import inspect
from pathlib import Path

import pytest

from drivetrain.envs.actions import ACTIONS, DISCRETE, MACRO
from drivetrain.envs.gym_single import RENDER_SIZES, RacingEnv
from drivetrain.envs.gym_vector import RacingVectorEnv
from drivetrain.envs.observe import LOOK_AHEAD, OBS_LIMIT, OBS_SIZE, OBS_SPEC
from drivetrain.envs.spec import CAR, ROAD, RULES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "environment.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def observation_table():
    rows, at = [], 0
    for element in OBS_SPEC:
        places = f"{at}" if element.size == 1 else f"{at}–{at + element.size - 1}"
        cells = (places, f"`{element.name}`", element.unit, f"{element.scale:.6g}", element.meaning)
        rows.append(f"| {' | '.join(cells)} |")
        at += element.size
    return "\n".join(rows)


@pytest.mark.conformance
def test_the_observation_is_documented_element_by_element():
    assert observation_table() in PAGE, f"paste this table into docs/environment.md:\n{observation_table()}"
    assert f"Box(-{OBS_LIMIT:g}, {OBS_LIMIT:g}, ({OBS_SIZE},), float32)" in TEXT
    assert f"the points {', '.join(str(i) for i in LOOK_AHEAD)} places further along" in TEXT
    assert f"float32 `[{OBS_SIZE}]`" in TEXT


@pytest.mark.conformance
def test_the_actions_are_documented_one_by_one():
    table = "\n".join(f"| {i} | {steer:g} | {gas:g} | {brake:g} |" for i, (steer, gas, brake) in enumerate(MACRO))
    assert table in PAGE, f"paste this table into docs/environment.md:\n{table}"
    assert DISCRETE[1][0] == 0.6
    assert DISCRETE[3][1] == 0.2
    assert DISCRETE[4][2] == 0.8
    assert "1 right (steer 0.6), 2 left, 3 gas (0.2), 4 brake (0.8)" in TEXT
    for name in ACTIONS:
        assert f"| `{name}` |" in PAGE


@pytest.mark.conformance
def test_every_argument_of_the_front_ends_is_in_the_table():
    single = set(inspect.signature(RacingEnv).parameters)
    vector = set(inspect.signature(RacingVectorEnv).parameters)
    for name in single | vector:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        *_, in_single, in_vector = (cell.strip() for cell in row.strip("|").split("|"))
        assert (in_single == "✓", in_vector == "✓") == (name in single, name in vector)


@pytest.mark.conformance
def test_the_numbers_of_the_rules_are_those_of_the_code():
    assert RULES.lap_reward == 1000
    assert "**1000 / N for every tile" in TEXT
    assert RULES.frame_cost == 0.1
    assert "**−0.1 for every frame**" in TEXT
    assert RULES.out_of_field == -100
    assert "the reward is −100" in TEXT
    assert f"{RULES.time_limit:,} frames" in TEXT
    assert f"more than {RULES.lap_percent:.0%} of".replace("%", " %") in TEXT
    assert f"±{ROAD.playfield:.2f} u" in TEXT
    assert f"{ROAD.half_width:.3f} u to either side" in TEXT
    assert f"{CAR.grip_road:g} units of force on the road and {CAR.grip_grass:g} on grass" in TEXT
    width, height = RENDER_SIZES["rgb_array"]
    assert f"uint8 `[{height}, {width}, 3]`" in TEXT

"""The environment's specification says what the code does."""

import inspect
import math
from pathlib import Path

import pytest
import torch

from drivetrain.envs.actions import ACTIONS, DISCRETE, MACRO
from drivetrain.envs.gym_single import RENDER_SIZES, RacingEnv
from drivetrain.envs.gym_vector import RacingVectorEnv
from drivetrain.envs.lidar import FAN, MOTION_SIZE, MOTION_SPEC
from drivetrain.envs.observe import LOOK_AHEAD, OBS_LIMIT, OBS_SIZE, OBS_SPEC
from drivetrain.envs.screen import CAR_AT, FIRST_ZOOM, LAST_ZOOM, SOURCE, zoom
from drivetrain.envs.sim import SimConfig
from drivetrain.envs.spec import CAR, ROAD, RULES
from drivetrain.envs.sprite import LEVELS
from drivetrain.envs.view import LUMA, PALETTE, PICTURES, ROAD_ROWS, SIDE, SIZES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "environment.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def observation_table(spec=OBS_SPEC):
    rows, at = [], 0
    for element in spec:
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
def test_the_picture_is_documented_with_the_numbers_of_the_code():
    width, height = (SOURCE[k] / SIDE / LAST_ZOOM for k in range(2))
    assert f"a pixel is {width:.3f} u wide and {height:.3f} u high" in TEXT
    assert f"column {CAR_AT[0]:g} and row {CAR_AT[1]:g}" in TEXT
    assert f"In the first {LEVELS} frames" in TEXT
    assert f"from {float(zoom(torch.zeros(1))):.3g} to {LAST_ZOOM:g} pixels" in TEXT
    assert FIRST_ZOOM < LAST_ZOOM
    assert f"Rows 0 to {ROAD_ROWS - 1} show" in TEXT
    assert f"Rows {ROAD_ROWS} to {SIDE - 1} are the indicators" in TEXT
    red, green, blue = LUMA
    assert f"({red} R + {green} G + {blue} B + 128) // 256" in TEXT
    assert f"the nearest of the {len(PALETTE)} flat colours" in TEXT
    assert ", ".join(f'`"{name}"`' for name in PICTURES) in TEXT
    assert f"{SIZES[0]}, {SIZES[1]} or {SIZES[2]} columns" in TEXT


@pytest.mark.conformance
def test_lidar_is_documented_element_by_element():
    table = observation_table(MOTION_SPEC)
    assert table in PAGE, f"paste this table into docs/environment.md:\n{table}"
    assert f"of {MOTION_SIZE} numbers of the car's own motion, within ±{OBS_LIMIT:g}" in TEXT
    assert f"{math.degrees(FAN):g}° · (u + 3 u³) / 4" in TEXT
    assert f"({SimConfig().beam_range:g} by default)" in TEXT
    assert f"| of lidar, 1 to 256 | {SimConfig().beams} |" in TEXT


@pytest.mark.conformance
def test_defaults_in_the_table_are_those_of_the_code():
    for name, parameter in inspect.signature(RacingVectorEnv).parameters.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        default = row.strip("|").split("|")[2].strip().strip("`").strip('"')
        wanted = f"{parameter.default:g}" if isinstance(parameter.default, float) else str(parameter.default)
        assert default == wanted


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

"""The verb `parity`: its keys, its table, its options."""

from __future__ import annotations

import pytest

pytest.importorskip("Box2D")

from drivetrain.envs.errors import UserError
from drivetrain.parity import main, random_controls

SMALL = ["--tracks", "2", "--laps", "1", "--drives", "2", "--frames", "20", "--contacts", "40", "--pictures", "1"]
SMALL += ["--seed", "5"]


@pytest.mark.conformance
def test_it_reports_what_the_contract_names(capsys: pytest.CaptureFixture[str]) -> None:
    result = main(SMALL)
    wanted = {
        "tracks_equal",
        "position_error_max",
        "reward_error_max",
        "contact_mismatches",
        "picture_mae",
        "score_gap",
    }
    assert wanted <= set(result.values)
    assert result.code == 0
    assert result.values["tracks_equal"] is True
    assert 0 < result.values["picture_mae"] < 0.6
    assert result.values["pictures"] > 500
    assert result.values["laps"][0]["seed"] == 5
    assert "roads, point for point" in capsys.readouterr().out


def test_wrong_sizes_are_refused_in_words() -> None:
    with pytest.raises(UserError, match="laps"):
        main(["--laps", "0"])
    with pytest.raises(UserError, match="--drives"):
        main(["--drive", "3"])


@pytest.mark.invariance
def test_the_random_controls_of_a_drive_do_not_depend_on_how_many_there_are() -> None:
    many, few = random_controls(5, 40, 3), random_controls(2, 20, 3)
    assert many.shape == (40, 5, 3)
    assert (many[:20, :2] == few).all()
    assert (many[0] == many[9]).all()  # held for ten frames
    assert (many[9] != many[10]).any()

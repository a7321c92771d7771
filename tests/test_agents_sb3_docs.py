"""The page about Stable-Baselines3 tells what is so."""

import re
from pathlib import Path

import pytest

from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.sb3_settings import dqn_lacks

PAGE = (Path(__file__).parent.parent / "docs" / "stable_baselines3.md").read_text()


@pytest.mark.conformance
@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    code = "\n".join(blocks).replace("1_000_000", "64").replace("num_envs=512", "num_envs=4")
    names: dict = {}
    exec(code.replace("batch_size=4096", "batch_size=128"), names)
    assert names["model"].policy.core.obs_shape == (43,)
    assert names["notes"] == ()
    assert names["mean"] > 0


def test_the_page_names_what_its_dqn_does_without():
    everything = {"double": True, "munchausen": True, "noisy": True, "eps_ladder": 1.0, "buffer": "prioritized"}
    lacks = dqn_lacks(DQNConfig(**everything, loss="mse")) + dqn_lacks(DQNConfig(quantiles=5, double=False))
    assert len(lacks) == 7
    for name in lacks:
        assert f"`{name.replace('=', ' ')}`" in PAGE

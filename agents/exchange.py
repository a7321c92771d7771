"""Drives to and from Minari, the exchange format for recorded episodes (minari.farama.org).

A dataset holds what a driver of some task saw and did. Frames and states of ours are not in it; but a dataset of single
frames with all three controls, and with the seeds of its tracks, can be driven again, which gives them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..envs.actions import action_space
from ..envs.errors import UserError
from ..envs.gym_single import RacingEnv
from ..envs.sight import observation_space
from ..envs.sim import SimConfig
from ..envs.spec import RULES
from .demos import Demo, DemoRecorder
from .drives import decisions, read_drive

if TYPE_CHECKING:
    from minari import MinariDataset

MINARI = "minari:"
"""before the id of a dataset, where a folder of drives may stand"""
SAME = 1e-3
"""points, by which a reward may differ when a drive is driven again: files hold less digits than memory"""


def export_minari(files: Sequence[Path], config: SimConfig, dataset: str) -> int:
    """Writes drives as a dataset of a task. Returns the number of decisions.

    Raises:
        UserError: Minari is not installed, knows this id already or refuses it; a drive that cannot be read.
    """
    minari = _minari()
    from minari.data_collector import EpisodeBuffer

    if dataset in minari.list_local_datasets():
        raise UserError("this dataset is there already", got=dataset, fix="take another id, or `minari delete` it")
    buffers, players = [], set()
    for number, file in enumerate(files):
        demo = read_drive(file)
        seen = decisions(demo, config)
        over = len(seen.action)
        ended = not demo.about.cut
        late = ended and len(demo) >= RULES.time_limit
        flags = np.zeros((2, over), bool)
        flags[:, -1] = (ended and not late), (late or not ended)
        players.add(demo.about.player)
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=demo.about.seed,
                observations=list(seen.obs.numpy()),
                actions=list(seen.action.numpy()),
                rewards=seen.reward.tolist(),
                terminations=flags[0].tolist(),
                truncations=flags[1].tolist(),
                infos={},
            )
        )
    try:
        minari.create_dataset_from_buffers(
            dataset,
            buffers,
            observation_space=observation_space(config),
            action_space=action_space(config.actions),
            algorithm_name=", ".join(sorted(players)),
            author="drivetrain",
            author_email="none",
            code_permalink="https://gymnasium.farama.org/environments/box2d/car_racing/",
            description=f"drives on drivetrain/Racing-v0, obs={config.obs}, actions={config.actions}, "
            f"frame_skip={config.frame_skip}",
        )
    except ValueError as error:
        raise UserError(
            "Minari does not take this dataset", got=error, allowed="an id such as racing/mine-v0"
        ) from None
    return sum(len(buffer.rewards) for buffer in buffers)


def import_minari(dataset: str, lap_rule: str = "all") -> list[Demo]:
    """Drives of a dataset, driven again from the seeds of their tracks.

    Raises:
        UserError: Minari is not installed or has no such dataset; actions that are not all three controls; an episode
            without a seed, or one that goes otherwise here: of another environment, frame skip or version.
    """
    minari = _minari()
    if dataset not in minari.list_local_datasets():
        fix = f"fetch it by `minari download {dataset}`, or see `minari list local`"
        raise UserError("there is no such dataset here", got=dataset, fix=fix)
    found: MinariDataset = minari.load_dataset(dataset)
    wanted: Any = action_space("continuous")
    space: Any = found.action_space
    if (
        space.shape != wanted.shape
        or not np.allclose(space.low, wanted.low)
        or not np.allclose(space.high, wanted.high)
    ):
        got = " ".join(str(space).split())
        raise UserError(f"the actions of {dataset} are not those of a car", got=got, allowed="steer, gas, brake")
    player = str(found.storage.metadata.get("algorithm_name", dataset))
    told = {row["id"]: row.get("seed") for row in found.storage.get_episode_metadata(found.episode_indices)}
    return [_driven_again(dataset, each, told[each.id], player, lap_rule) for each in found.iterate_episodes()]


def _driven_again(dataset: str, episode: Any, seed: Any, player: str, lap_rule: str) -> Demo:
    what = f"episode {episode.id} of {dataset} was not driven here"
    if seed is None or isinstance(seed, str):  # files write None as a word
        raise UserError(what, got="no seed", allowed="the seed of its track")
    env = RacingEnv(lap_rule=lap_rule)
    env.reset(seed=int(seed))
    recorder, score, over = DemoRecorder(env.car_state(), ()), 0.0, False
    for frame, (action, told) in enumerate(zip(episode.actions, episode.rewards, strict=True)):
        if over:
            raise UserError(what, got=f"{len(episode.actions)} frames", allowed=f"{frame}, where it ends here")
        controls = np.asarray(action, np.float32)
        _, reward, terminated, truncated, _ = env.step(controls)
        if abs(reward - float(told)) > SAME:
            fix = "drives are exchanged frame by frame, within one version of the simulator"
            raise UserError(what, got=f"reward {float(told):.3f} in frame {frame}", allowed=f"{reward:.3f}", fix=fix)
        score, over = score + reward, terminated or truncated
        recorder.add(env.car_state(), controls, reward, False)
    return recorder.finish("racing", int(seed), player, score, not over, lap_rule)


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        fix = 'pip install "minari[hdf5]"'
        raise UserError("drives in Minari's format need a package that is not installed", got=error, fix=fix) from None
    return minari

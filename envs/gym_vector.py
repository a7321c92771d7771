"""Many cars behind Gymnasium's vector interface: arrays of numpy by default, tensors on the device on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from .actions import action_space, check_action
from .errors import UserError
from .gym_single import RENDER_SIZES, check_render_mode
from .sight import observation_space
from .sim import Outcome, Sim
from .spec import DT
from .state import CarState
from .task import sim_config
from .track import Tracks, build_tracks, centreline_of_seed
from .viewer import Viewer

FIRST_FREE_SEED = 2_000_000_000
"""pools that no seed asked for are drawn from here on: below lie the seeds of tests and of validation"""


class RacingVectorEnv(VectorEnv[Any, Any, Any]):
    """`drivetrain/Racing-v0`: num_envs cars at once, by `gymnasium.make_vec("drivetrain/Racing-v0", num_envs=1024)`.

    `reset(seed=s)` puts lane i on Gymnasium's track of seed s + (i mod num_tracks); later episodes draw from that pool
    of num_tracks tracks by a hash of (s, lane, episode). A seed per lane, as a list, makes the listed tracks the pool.
    Without a seed the first reset draws a pool at random and later ones start every lane's next episode.

    An episode that ends is followed by the next one in the same step (autoreset mode SAME_STEP), and what the last
    action led to is kept: numpy has it as Gymnasium's `final_obs`, `_final_obs` and `final_info` (with "lap_finished"
    where an episode terminated); torch_api=True has `info["next_obs"]`, the true next observation of every lane.

    Args:
        num_envs: cars.
        obs, actions, frame_skip, lap_rule: see drivetrain.envs.gym_single.RacingEnv.
        domain_randomize: other colours in every episode, drawn by a hash of (s, lane, episode).
        render_mode: None or "rgb_array" (one uint8 [400, 600, 3] per lane).
        device: of the simulation: "cpu", "cuda", "cuda:1" …
        num_tracks: roads in the pool.
        torch_api: tensors in and out, on the device; the next step may overwrite them. Flags are bool [B], rewards
            float32 [B].
        picture, picture_size, crop, indicators, frame_stack, beams, beam_range, hide_motion: as
            RacingEnv takes them.

    Raises:
        UserError: an argument unknown or out of range, a device that is not there.
    """

    def __init__(  # noqa: PLR0913  (the keyword arguments of gymnasium.make_vec)
        self,
        num_envs: int = 1,
        obs: str = "state",
        actions: str = "continuous",
        frame_skip: int = 1,
        lap_rule: str = "all",
        domain_randomize: bool = False,
        render_mode: str | None = None,
        device: str = "cpu",
        num_tracks: int = 256,
        torch_api: bool = False,
        picture: str = "rgb",
        picture_size: int = 96,
        crop: bool = False,
        indicators: str = "original",
        frame_stack: int = 1,
        beams: int = 19,
        beam_range: float = 40.0,
        hide_motion: bool = False,
    ) -> None:
        for name, count in (("num_envs", num_envs), ("num_tracks", num_tracks)):
            if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
                raise UserError(f"{name} is no positive whole number", got=repr(count), allowed="1 or more")
        self.config = sim_config(
            obs=obs,
            actions=actions,
            frame_skip=frame_skip,
            lap_rule=lap_rule,
            picture=picture,
            picture_size=picture_size,
            crop=crop,
            indicators=indicators,
            domain_randomize=domain_randomize,
            frame_stack=frame_stack,
            beams=beams,
            beam_range=beam_range,
            hide_motion=hide_motion,
        )
        check_render_mode(render_mode, ("rgb_array",))
        self.num_envs, self.num_tracks, self.torch_api = int(num_envs), int(num_tracks), torch_api
        self.render_mode, self.device = render_mode, _device(device)
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": ["rgb_array"],
            "render_fps": max(1, round(1 / (DT * self.config.frame_skip))),
        }
        self.single_observation_space = observation_space(self.config)
        self.single_action_space = action_space(self.config.actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._sim: Sim | None = None
        self._pool: tuple[tuple[int, ...], Tracks] | None = None
        self._viewers: list[Viewer] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start every lane, or with options={"reset_mask": bool [B]} the next episode of some lanes.

        Returns:
            Observations [B, …], and {} (torch_api: {"next_obs": the same}).

        Raises:
            UserError: a list of seeds of the wrong length, a mask of the wrong shape or dtype or together with a seed.
        """
        mask = None if options is None else options.get("reset_mask")
        if mask is not None:
            obs = self._next_episodes(self._checked_mask(mask, seed))
        elif seed is None and self._sim is not None:
            obs = self._next_episodes(torch.ones(self.num_envs, dtype=torch.bool))
        else:
            seeds, sim_seed = self._seeds(seed)
            self._sim = Sim(self._tracks(seeds), self.num_envs, self.config, sim_seed)
            obs = self._sim.reset()
        if self.torch_api:
            return obs, {"next_obs": obs}
        return obs.cpu().numpy().copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One decision for every car; lanes whose episode ended are on their next one already.

        Args:
            actions: [B, …] as action_space says, numpy or tensor.

        Returns:
            obs [B, …], reward [B], terminated [B], truncated [B], info.

        Raises:
            UserError: before the first reset; actions of the wrong shape or dtype, out of range, or not finite.
        """
        action = actions if isinstance(actions, Tensor) else torch.as_tensor(np.asarray(actions))
        check_action(self.config.actions, action, self.num_envs)
        outcome = self.sim.step(action.to(self.device))
        if self.torch_api:
            info = {"next_obs": outcome.next_obs, "lap_finished": outcome.lap_finished, "frames": outcome.frames}
            return outcome.obs, outcome.reward, outcome.terminated, outcome.truncated, info
        arrays = [x.cpu().numpy() for x in (outcome.reward, outcome.terminated, outcome.truncated)]
        return (
            outcome.obs.cpu().numpy().copy(),
            arrays[0].astype(np.float64),
            arrays[1].copy(),
            arrays[2].copy(),
            self._infos(outcome),
        )

    def render(self) -> tuple[Any, ...] | None:
        """A picture uint8 [400, 600, 3] of every lane; None without render_mode="rgb_array"."""
        if self.render_mode is None:
            return None
        if not self._viewers:
            # one each, because a viewer's camera follows its car from picture to picture
            self._viewers = [Viewer(RENDER_SIZES["rgb_array"]) for _ in range(self.num_envs)]
        state = self.sim.state
        return tuple(viewer.frame(self.tracks, state, lane) for lane, viewer in enumerate(self._viewers))

    @property
    def sim(self) -> Sim:
        """The simulator.

        Raises:
            UserError: before the first reset.
        """
        if self._sim is None:
            raise UserError("step before reset", fix="call reset() first")
        return self._sim

    @property
    def tracks(self) -> Tracks:
        """The pool of roads."""
        return self.sim.tracks

    def car_state(self) -> CarState:
        """The cars now: B rows."""
        return self.sim.state.map(torch.clone)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> tuple[tuple[int, ...], int]:
        """The seeds of the pool, one for every lane or num_tracks of them, and the seed of the later episodes."""
        if seed is None:
            seed = self._free_seed()
        if isinstance(seed, (int, np.integer)):
            self._np_random, self._np_random_seed = seeding.np_random(int(seed))
            return tuple(range(int(seed), int(seed) + self.num_tracks)), int(seed)
        if len(seed) != self.num_envs:
            raise UserError("one seed per lane, or one for all", got=f"{len(seed)} seeds", allowed=str(self.num_envs))
        seeds = tuple(self._free_seed() if s is None else int(s) for s in seed)
        for s in seeds:
            seeding.np_random(s)  # refuses what Gymnasium refuses
        return seeds, seeds[0]

    def _free_seed(self) -> int:
        return int(self.np_random.integers(FIRST_FREE_SEED, 2**32 - self.num_tracks))

    def _tracks(self, seeds: tuple[int, ...]) -> Tracks:
        if max(seeds) >= 2**63:
            raise UserError("seed too large", got=max(seeds), allowed=f"0 to {2**63 - self.num_tracks}")
        if self._pool is None or self._pool[0] != seeds:
            self._pool = (seeds, build_tracks([centreline_of_seed(s) for s in seeds], seeds, self.device))
        return self._pool[1]

    def _next_episodes(self, mask: Tensor) -> Tensor:
        return self.sim.restart(mask.to(self.device))

    def _checked_mask(self, mask: Any, seed: object) -> Tensor:
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool or tuple(mask.shape) != (self.num_envs,) or not bool(mask.any()):
            got = f"{mask.dtype} {tuple(mask.shape)}, {int(mask.sum())} set"
            raise UserError("wrong reset_mask", got=got, allowed=f"bool ({self.num_envs},), one at least set")
        if seed is not None:
            raise UserError("reset_mask starts the next episodes of the pool", got=f"seed {seed}", fix="leave seed out")
        return mask

    def _infos(self, outcome: Outcome) -> dict[str, Any]:
        """What Gymnasium's SyncVectorEnv tells about the episodes that ended, in its own format."""
        infos: dict[str, Any] = {}
        if not bool(outcome.done.any()):
            return infos
        final_obs, finished = outcome.next_obs.cpu().numpy(), outcome.lap_finished.cpu().numpy()
        terminated = outcome.terminated.cpu().numpy()
        for lane in outcome.done.nonzero()[:, 0].tolist():
            final_info = {"lap_finished": bool(finished[lane])} if terminated[lane] else {}
            infos = self._add_info(infos, {"final_obs": final_obs[lane].copy(), "final_info": final_info}, lane)
        return infos


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        allowed = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise UserError("this device is not there", got=repr(name), allowed=allowed) from error
    return device

"""Any Gymnasium environment as B environments of tensors that reset themselves.

Reading order: `GymBatch.step` is one step: the action in the environment's own form, the step (lanes.py), the counts
(tally.py), and the observations in the policy's form (codecs.py, gym_view.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from .codecs import ActionCodec, ObsCodec
from .episodes import play_episodes
from .errors import UserError
from .guard import Place, failure
from .gym_ids import check_env_id, reward_threshold, time_limit
from .gym_task import GymTask
from .gym_view import GymView
from .lanes import Fault, Lanes, lane_seed
from .preprocess import one_lane
from .reward_scale import RewardScale
from .tally import Tally

__all__ = [
    "GymBatch",
    "GymStep",
    "GymTask",
    "check_env_id",
    "play_episodes",
    "reward_threshold",
    "spaces_of",
    "time_limit",
]

ActionSpace = Box | Discrete | MultiDiscrete | MultiBinary


class GymStep(NamedTuple):
    """What a step led to. `next_obs` and the episode fields describe the moment before any reset."""

    obs: Tensor  # [B, …], the first of a new episode where one ended; not before the next step if not valid
    next_obs: Tensor  # [B, …], what the action led to
    reward: Tensor  # [B] float32, scaled and clipped as the task says
    terminated: Tensor  # [B] bool: the future is worth nothing
    truncated: Tensor  # [B] bool: the future is cut off
    lap_finished: None
    frames: Tensor  # [B] int64, frames of this step
    episode_return: Tensor  # [B] float32, the environment's own rewards of the episode so far
    episode_frames: Tensor  # [B] int64
    valid: Tensor | None  # [B] bool: False where the environment ignored the action and reset itself; None = all


def spaces_of(task: GymTask) -> tuple[Box, ActionSpace]:
    """Observations and actions of one lane, as a policy sees them.

    Raises:
        UserError: no such environment, it cannot be made, or spaces that no policy here knows.
    """
    env = one_lane(task)
    try:
        seen = ObsCodec(env.observation_space).space
        return GymView(seen, task, torch.device("cpu")).space, ActionCodec(env.action_space).space
    finally:
        env.close()


def actions_of(task: GymTask) -> ActionCodec:
    """From a policy's actions to the environment's own.

    Raises:
        UserError: as spaces_of.
    """
    env = one_lane(task)
    try:
        return ActionCodec(env.action_space)
    finally:
        env.close()


class GymBatch:
    """B environments of a Gymnasium id.

    Args:
        task: what to make, and how.
        num_envs: B.
        seed: lane i begins with seed + i; a native batched environment takes it for all lanes.
        device: where observations are, and where actions come from.
        gamma: discount that norm_reward reckons with.

    Raises:
        UserError: no such environment, it cannot be made, or spaces that no policy here knows (2); it failed (5).
    """

    exact_state = False
    """whether state_tensors hold the episodes: no; after load_state_tensors, reset() begins new ones"""

    def __init__(
        self, task: GymTask, num_envs: int, seed: int, device: torch.device | str = "cpu", gamma: float = 0.99
    ) -> None:
        if num_envs < 1:
            raise UserError("num_envs is too small", got=num_envs, allowed="1 or more")
        self.task, self.num_envs, self.seed, self.device = task, num_envs, seed, torch.device(device)
        self.time_limit = time_limit(task)
        self._lanes = Lanes(task, num_envs)
        try:
            self._codec = ObsCodec(self._lanes.vec.single_observation_space)
            self._actions = ActionCodec(self._lanes.vec.single_action_space)
            self._view = GymView(self._codec.space, task, self.device)
        except BaseException:
            self.close()
            raise
        self.single_observation_space: Box = self._view.space
        self.single_action_space: ActionSpace = self._actions.space
        self.channels = self._view.channels
        self.resets_late = self._lanes.autoreset == AutoresetMode.NEXT_STEP  # in a step of its own, not valid
        self._tally = tally = Tally(num_envs, task.skip, self.resets_late)
        self._scale = RewardScale(num_envs, gamma) if task.norm_reward else None
        self._begun = 0  # how often the lanes began with new seeds
        self._seen, self._next = self._codec.empty(num_envs), self._codec.empty(num_envs)
        self._paid = np.zeros(num_envs, np.float32)
        counts = tally.frames, tally.episode_return, tally.episode_frames, tally.valid
        shown = self._seen, self._next, self._paid, tally.terminated, tally.truncated, *counts
        self._fixed = [torch.from_numpy(array) for array in shown]
        self._stack = self._view.first(self._view.prepare(self._seen))

    def reset(self) -> Tensor:
        """Begins the first episode of every lane. Returns obs [B, …].

        Raises:
            UserError: the environment failed (5).
        """
        self._tally.clear()
        if self._scale is not None:
            self._scale.returns[:] = 0
        seeds = [self._seed_of(lane) for lane in range(self.num_envs)]
        try:
            self._codec.read(self._lanes.reset(seeds), self._seen)
            self._check(self._seen)
        except Fault as fault:
            raise self._failed(fault) from fault
        self._stack = self._view.first(self._view.prepare(self._seen))
        return self._stack

    def scatter(self, generator: torch.Generator) -> None:
        """Does nothing: an environment's clock cannot be set from outside."""

    def schedule(self, share: float) -> None:
        """Does nothing: rewards stay as they are."""

    def step(self, action: Tensor) -> GymStep:
        """One step of every lane.

        Args:
            action: [B] or [B, A], of single_action_space.

        Returns:
            Tensors that the next step may overwrite.

        Raises:
            UserError: the environment failed (5); the policy gave no number (4).
        """
        taken = self._actions.decode(action.detach().cpu().numpy())
        try:
            return self._step(taken)
        except Fault as fault:
            raise self._failed(fault, taken) from fault

    def _step(self, taken: NDArray[Any]) -> GymStep:
        tally = self._tally
        tally.begin()
        raw, reward, terminated, truncated, info = self._lanes.step(taken)
        tally.add(reward, terminated, truncated, self._lanes.cut_short(info))
        self._codec.read(raw, self._seen)
        ended = bool(tally.done.any())
        parted = ended and not tally.late
        if parted:
            self._part(tally.done.nonzero()[0], info)
        self._check_step(parted)
        self._paid[...] = self._pay()
        step = self._report(*self._show(parted))
        if ended:
            tally.close()
        return step

    def state_tensors(self) -> dict[str, Tensor]:
        """What outlives an episode: the statistics of the rewards, and how often lanes began with new seeds."""
        scale = {} if self._scale is None else {"reward_moments": torch.from_numpy(self._scale.moments)}
        return scale | {"begun": torch.tensor(self._begun)}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts it back. The episodes are lost: call reset(), which then takes seeds that were not taken before.

        Raises:
            KeyError: something is missing.
        """
        self._begun = int(tensors["begun"]) + 1
        if self._scale is not None:
            self._scale.moments[:] = tensors["reward_moments"].cpu().numpy()

    def close(self) -> None:
        """Lets go of the environments and of every process of theirs; once is enough."""
        self._lanes.close()

    def _part(self, lanes: NDArray[np.intp], info: dict[str, Any]) -> None:
        """Where episodes ended, what was seen last goes to _next and what is seen first to _seen."""
        np.copyto(self._next, self._seen)
        if self._lanes.autoreset == AutoresetMode.DISABLED:
            first = self._codec.empty(self.num_envs)
            self._codec.read(self._lanes.restart(self._tally.done), first)
            self._seen[lanes] = first[lanes]
            return
        if "final_obs" not in info:
            raise Fault("its episodes end without final_obs in info, which SAME_STEP asks for", None)
        self._next[lanes] = self._codec.read_each([_row(info["final_obs"], lane) for lane in lanes])

    def _show(self, parted: bool) -> tuple[Tensor, Tensor]:
        """obs and next_obs; parted: they differ in the lanes that are done."""
        if self._view.untouched:
            return self._fixed[0], self._fixed[1 if parted else 0]
        newest = self._view.prepare(self._next if parted else self._seen)
        following = self._view.next(self._stack, newest)
        self._stack = following
        fresh = self._fresh()
        if fresh.any():
            lanes = fresh.nonzero()[0]
            first = self._view.first(self._view.prepare(self._seen[lanes]))
            self._stack = following.index_copy(0, torch.from_numpy(lanes).to(self.device), first)
        return self._stack, following

    def _fresh(self) -> NDArray[np.bool_]:
        """[B], which lanes show the first observation of an episode after this step."""
        return ~self._tally.valid if self._tally.late else self._tally.done

    def _pay(self) -> NDArray[np.floating]:
        """[B] rewards to learn from."""
        tally, limit = self._tally, self.task.clip_reward
        reward = tally.reward
        if self._scale is not None:
            reward = self._scale(reward, tally.done, tally.valid if tally.late else None)
        return reward if limit is None else np.clip(reward, -limit, limit)

    def _report(self, obs: Tensor, next_obs: Tensor) -> GymStep:
        here = self.device.type == "cpu"
        numbers = self._fixed[2:] if here else carried(self._fixed[2:], self.device)
        reward, terminated, truncated, frames, score, length, valid = numbers
        ours = valid if self._tally.late else None
        return GymStep(obs, next_obs, reward, terminated, truncated, None, frames, score, length, ours)

    def _check_step(self, parted: bool) -> None:
        """Every reward and every number of an observation is finite.

        Raises:
            Fault: one is not.
        """
        reward = self._tally.reward
        if not np.isfinite(reward).all():
            lane = int(np.isfinite(reward).argmin())
            raise Fault(f"the reward is {reward[lane]}", lane)
        if parted:
            self._check(self._next, first=False)
        self._check(self._seen)

    def _check(self, obs: NDArray[Any], first: bool = True) -> None:
        """first: some lanes may show the first observation of an episode.

        Raises:
            Fault: an observation is not finite.
        """
        if self._codec.picture or np.isfinite(obs).all():
            return
        lane, place = (int(x) for x in np.argwhere(~np.isfinite(obs))[0])
        at_reset = first and bool(self._fresh()[lane])
        raise Fault(f"number {place} of the observation is {obs[lane, place]}", lane, at_reset)

    def _failed(self, fault: Fault, taken: NDArray[Any] | None = None) -> UserError:
        """Ends the environments, and says where it happened."""
        self.close()
        lane = 0 if fault.lane is None else fault.lane
        episode, step = int(self._tally.episodes[lane]), int(self._tally.steps[lane])
        action = None if taken is None else taken if fault.lane is None else taken[lane]
        if fault.at_reset or taken is None:
            # an episode that ended in this step is not yet counted as over
            episode, step, action = episode + (taken is not None and not self._tally.late), 0, None
        return failure(self.task.env, fault.why, Place(fault.lane, self._seed_of(lane), episode, step, action))

    def _seed_of(self, lane: int) -> int:
        return lane_seed(self.seed + lane + self._begun * self.num_envs)


def carried(numbers: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors [B] on another device, in one crossing for all of them; whole numbers below 2^53 stay exact."""
    packed = torch.stack([x.double() for x in numbers]).to(device)
    return [row.to(like.dtype) for row, like in zip(packed, numbers, strict=True)]


def _row(final: Any, lane: int) -> Any:
    """The last observation of a lane, of all of them: one a lane, or batched."""
    if isinstance(final, dict):
        return {key: _row(part, lane) for key, part in final.items()}
    if isinstance(final, tuple):
        return tuple(_row(part, lane) for part in final)
    return final[lane]

"""Agents as Python objects: `PPO("racing", seed=0).learn(2_000_000)` and `load("runs/mine").predict(obs)`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel
from torch import Tensor
from typing_extensions import Unpack

from ..envs.errors import UserError, nearest
from ..policies.cores import Memory
from .build import build_learner, load_policy, make_config, pick_device
from .checkpoint import choose_checkpoint, save_checkpoint
from .players import remembers
from .presets import preset
from .settings import DQNSettings, PPOSettings
from .worlds import actions_of, task_record

if TYPE_CHECKING:
    from .build import AnyPolicy

SELF = TypeVar("SELF", bound="Trainable")


class Agent:
    """A trained driver: Stable-Baselines3's predict protocol on our policy.

    Args:
        policy: what decides.
        generator: of draws, on the policy's device; None = one of its own.
        to_env: from the policy's actions [B, …] to the environment's own; None = they are the same.
    """

    def __init__(
        self,
        policy: AnyPolicy,
        generator: torch.Generator | None = None,
        to_env: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        self.policy, self._to_env = policy, to_env
        self._generator = generator or torch.Generator(policy.device).manual_seed(0)

    def predict(
        self,
        obs: ArrayLike,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Actions for one observation or a batch [B, …], and the memory (a policy without one hands it back).

        Args:
            obs: [B, …], or […] of one lane.
            state: the memory that the last call gave, a tuple of one array [B, M]; None = the lanes have seen nothing.
            episode_start: [B] bool, lanes that begin an episode and forget what was before it; None = none of them.
            deterministic: the most likely actions instead of drawn ones.

        Raises:
            UserError: observations of another shape, or not numbers; a memory of another shape.
        """
        shape, pictures = self.policy.obs_shape, len(self.policy.obs_shape) == 3
        try:
            batch = torch.as_tensor(np.asarray(obs, None if pictures else np.float32))
        except (TypeError, ValueError) as error:
            raise UserError("the observation holds no numbers", got=error) from None
        rows = batch[None] if batch.shape == shape else batch
        right = rows.shape[1:] == shape and (rows.dtype == torch.uint8 or not pictures)
        if not right or not bool(torch.isfinite(rows).all()):
            kind = "uint8" if pictures else "finite numbers"
            allowed = f"{kind} {list(shape)} or [B, …]"
            raise UserError("the observation does not fit", got=f"{batch.dtype} {list(batch.shape)}", allowed=allowed)
        rows = rows.to(self.policy.device)
        if remembers(self.policy):
            action, state = self._recall(rows, state, episode_start, deterministic)
        else:
            action = self.policy.act(rows, deterministic, self._generator).cpu().numpy()
        action = action if self._to_env is None else self._to_env(action)
        return (action[0] if batch.shape == shape else action), state

    def _recall(
        self,
        rows: Tensor,
        state: tuple[NDArray[Any], ...] | None,
        episode_start: NDArray[np.bool_] | None,
        deterministic: bool,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...]]:
        """predict, of a policy that remembers."""
        policy = self.policy
        memory = policy.core.start(len(rows), policy.device)
        if state is not None:
            kept = torch.as_tensor(np.asarray(state[0], np.float32), device=policy.device)
            if kept.shape != memory.kept.shape:
                allowed = f"the one that predict gave for these lanes, {list(memory.kept.shape)}"
                raise UserError("the memory does not fit", got=list(kept.shape), allowed=allowed)
            first = np.zeros(len(rows), np.bool_) if episode_start is None else np.asarray(episode_start, np.bool_)
            memory = Memory(kept, torch.as_tensor(first, device=policy.device).expand(len(rows)))
        action, kept = policy.act_with(rows, memory, deterministic, self._generator)
        return action.cpu().numpy(), (kept.cpu().numpy(),)


class Trainable(Agent):
    """An agent together with what it learns on; PPO and DQN say with which algorithm.

    Args:
        env: "racing", "CarRacing-v3", or the id of a Gymnasium environment.
        seed: of weights, environments and exploration, 0 or more.
        device: "cpu", "cuda", or "auto" (cuda where there is one).
        settings: of task and algorithm; what is left out comes from the preset of the environment.

    Raises:
        UserError: unknown environment or setting, a device that is not there, or a setting out of its range.
    """

    algo: Literal["ppo", "dqn"]

    def __init__(self, env: str, seed: int, device: str, settings: Mapping[str, Any]) -> None:
        flat = preset(self.algo, env, settings) | dict(settings)
        self.env_name, self.seed = env, seed
        self.config = make_config(self.algo, flat)
        self.task = task_record(env, flat)
        _refuse_unknown(settings, self.config, self.task)
        self.learner = build_learner(self.algo, env, flat, seed, pick_device(device))
        generator = torch.Generator(self.learner.env.device).manual_seed(seed)
        super().__init__(self.learner.policy, generator, actions_of(env, flat))

    @property
    def steps(self) -> int:
        """Decisions so far, all lanes together."""
        return self.learner.steps

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Trains until `steps` reaches total_steps; yields the metrics of every update."""
        return self.learner.iterate(total_steps)

    def learn(self: SELF, total_steps: int) -> SELF:
        """Trains until `steps` reaches total_steps."""
        for _ in self.iterate(total_steps):
            pass
        return self

    def save(self, path: str | Path) -> Path:
        """Writes config.json and a checkpoint of the present step into the run folder path; returns the checkpoint.

        Raises:
            UserError: the folder holds another run.
            FileExistsError: this step was saved there before.
        """
        folder = Path(path)
        record = {"algo": self.algo, "env": self.env_name, "seed": self.seed} | self.task
        record |= self.config.model_dump(mode="json")
        file, text = folder / "config.json", json.dumps(record, indent=2) + "\n"
        if file.exists() and file.read_text() != text:
            raise UserError("another run is in this folder", got=str(path), fix="save under another path")
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        tensors, values = self.learner.trainer_state()
        info = {"frames": self.learner.frames}
        state = {"agent": values, "run": {}}
        return save_checkpoint(folder / "checkpoints", self.steps, self.policy.state_dict(), tensors, state, info)


class PPO(Trainable):
    """Proximal policy optimisation; see Trainable, and PPOConfig for its settings."""

    algo = "ppo"

    def __init__(
        self, env: str = "racing", *, seed: int = 0, device: str = "auto", **settings: Unpack[PPOSettings]
    ) -> None:
        super().__init__(env, seed, device, settings)


class DQN(Trainable):
    """Deep Q-learning; see Trainable, and DQNConfig for its settings."""

    algo = "dqn"

    def __init__(
        self, env: str = "racing", *, seed: int = 0, device: str = "auto", **settings: Unpack[DQNSettings]
    ) -> None:
        super().__init__(env, seed, device, settings)


def load(path: str | Path, checkpoint: str = "best", device: str = "cpu") -> Agent:
    """The driver of a run folder, from its best checkpoint by validation, else its newest; or "last", or a step.

    Raises:
        UserError: no such folder or device (2), no valid checkpoint (3), or weights that do not fit config.json (2).
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UserError("this is no run folder", got=str(path), allowed="a folder with config.json and checkpoints/")
    config = json.loads((folder / "config.json").read_text())
    found = choose_checkpoint(folder / "checkpoints", checkpoint)
    policy = load_policy(config, found.path).to(pick_device(device))
    return Agent(policy, to_env=actions_of(str(config.get("env", "racing")), config))


def _refuse_unknown(settings: Mapping[str, Any], config: BaseModel, task: Mapping[str, Any]) -> None:
    known = [*type(config).model_fields, *task]
    for name in settings:
        if name not in known:
            near = nearest(name, known)
            raise UserError("unknown setting", got=name, fix=f"did you mean {near}?" if near else None)

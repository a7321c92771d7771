"""Agents as Python objects: `PPO("racing", seed=0).learn(2_000_000)` and `load("runs/mine").predict(obs)`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Unpack

from ..envs.actions import action_space
from ..envs.errors import UserError, nearest
from ..envs.sight import observation_space
from ..envs.sim import Sim, SimConfig
from ..envs.task import sim_config, task_of
from ..envs.track import pool
from ..policies.build import build_policy
from ..policies.policy import Policy
from .checkpoint import choose_checkpoint, load_model, save_checkpoint
from .config import POOL_STRIDE, TASK, TRAINING_SEEDS, PPOConfig, preset, task_in
from .ppo import PPOLearner

ENVIRONMENTS = ("racing",)
RUN_ONLY = ("steps", "eval_every")
"""entries of a preset that belong to a run of the command line"""


class Settings(TypedDict, total=False):
    """The task and every field of PPOConfig; what is left out comes from the environment's preset."""

    obs: Literal["state", "lidar", "pixels"]
    actions: Literal["continuous", "pedals", "discrete", "macro"]
    frame_skip: int
    lap_rule: Literal["all", "percent"]
    picture: Literal["rgb", "grey", "palette"]
    picture_size: Literal[64, 84, 96]
    crop: bool
    indicators: Literal["original", "random"]
    domain_randomize: bool
    frame_stack: int
    beams: int
    beam_range: float
    encoder: Literal["mlp", "cnn", "resnet"]
    hidden: tuple[int, ...]
    channels: tuple[int, ...] | None
    activation: Literal["tanh", "relu", "elu", "silu"]
    shared_trunk: bool
    log_std_min: float
    log_std_init: float
    num_envs: int
    num_steps: int
    update_epochs: int
    num_minibatches: int
    learning_rate: float
    lr_schedule: Literal["constant", "linear", "adaptive"]
    desired_kl: float
    desired_kl_end: float | None
    gamma: float
    gae_lambda: float
    clip_coef: float
    vf_coef: float
    ent_coef: float
    max_grad_norm: float
    target_kl: float | None
    norm_adv: bool
    norm_return: bool
    norm_obs: bool
    random_phase: bool
    num_tracks: int
    gap_cost: float
    gap_cost_start: float | None
    patience: int


class Agent:
    """A trained driver: Stable-Baselines3's predict protocol on our policy."""

    def __init__(self, policy: Policy, generator: torch.Generator | None = None) -> None:
        self.policy = policy
        self._generator = generator or torch.Generator(policy.device).manual_seed(0)

    def predict(
        self,
        obs: ArrayLike,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Actions for one observation or a batch [B, …], and the memory (a policy without one hands it back).

        Raises:
            UserError: observations of another shape, or not numbers.
        """
        del episode_start
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
        action = self.policy.act(rows.to(self.policy.device), deterministic, self._generator).cpu().numpy()
        return (action[0] if batch.shape == shape else action), state


class PPO(Agent):
    """PPO on the batched simulator.

    Args:
        env: "racing".
        seed: of weights, tracks and exploration, 0 or more.
        device: "cpu", "cuda", or "auto" (cuda where there is one).
        settings: fields of Settings.

    Raises:
        UserError: unknown environment, a device that is not there, or a setting out of its range.
    """

    def __init__(
        self, env: str = "racing", *, seed: int = 0, device: str = "auto", **settings: Unpack[Settings]
    ) -> None:
        if env not in ENVIRONMENTS:
            near = nearest(env, ENVIRONMENTS)
            raise UserError("unknown environment", got=env, allowed=ENVIRONMENTS, fix=near and f"did you mean {near}?")
        flat = TASK | preset("ppo", env, settings) | dict(settings)
        self.env_name, self.seed = env, seed
        self.task = dict(task_of(sim_config(**{name: flat[name] for name in TASK})))
        self.config = make_config({name: value for name, value in flat.items() if name not in {*TASK, *RUN_ONLY}})
        self.learner = build_learner(self.config, self.task, seed, pick_device(device))
        super().__init__(self.learner.policy, torch.Generator(self.learner.env.device).manual_seed(seed))

    @property
    def steps(self) -> int:
        """Decisions so far, all cars together."""
        return self.learner.steps

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Trains until `steps` reaches total_steps; yields the metrics of every update."""
        return self.learner.iterate(total_steps)

    def learn(self, total_steps: int) -> PPO:
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
        record = (
            {"algo": "ppo", "env": self.env_name, "seed": self.seed} | self.task | self.config.model_dump(mode="json")
        )
        file, text = folder / "config.json", json.dumps(record, indent=2) + "\n"
        if file.exists() and file.read_text() != text:
            raise UserError("another run is in this folder", got=str(path), fix="save under another path")
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        tensors, values = self.learner.trainer_state()
        info = {"frames": self.learner.frames}
        state = {"agent": values, "run": {}}
        return save_checkpoint(folder / "checkpoints", self.steps, self.policy.state_dict(), tensors, state, info)


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
    return Agent(load_policy(config, found.path).to(pick_device(device)))


def load_policy(config: dict[str, Any], checkpoint: Path) -> Policy:
    """The network that config.json describes, with the weights of a checkpoint folder.

    Raises:
        UserError: damaged checkpoint (3), or weights of another shape (2).
    """
    cfg = PPOConfig(**{name: config[name] for name in PPOConfig.model_fields if name in config})
    task = sim_config(**task_in(config))
    policy = build_policy(observation_space(task), action_space(task.actions), cfg, torch.Generator())
    load_weights(policy, checkpoint)
    return policy.eval()


def load_weights(policy: Policy, checkpoint: Path) -> None:
    """Puts the weights of a checkpoint folder into a policy.

    Raises:
        UserError: damaged checkpoint (3), or weights of another shape (2).
    """
    try:
        policy.load_state_dict(load_model(checkpoint))
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        what = f"the network of {checkpoint} has another shape"
        raise UserError(what, got=why, fix="use the options of that run") from None


def build_learner(cfg: PPOConfig, task: dict[str, Any], seed: int, device: str, steps: int = 1) -> PPOLearner:
    """PPO on a training pool of its own; steps = where linear schedules end.

    Raises:
        UserError: a seed below 0: its pool would reach into the tracks of validation and tests.
    """
    if seed < 0:
        raise UserError("seed is negative", got=seed, allowed="0 or more")
    config = SimConfig(**task, gap_cost=cfg.gap_cost, patience=cfg.patience)
    pictures = config.obs == "pixels"
    if pictures == (cfg.encoder == "mlp"):
        fix = "take --encoder cnn or resnet" if pictures else "take --encoder mlp"
        raise UserError(f"the encoder {cfg.encoder} does not read {config.obs}", got=cfg.encoder, fix=fix)
    tracks = pool(TRAINING_SEEDS + POOL_STRIDE * seed, cfg.num_tracks, device)
    sim = Sim(tracks, cfg.num_envs, config, seed)
    try:
        return PPOLearner(sim, cfg, torch.Generator(device).manual_seed(seed), total_steps=steps)
    except UserError:
        raise
    except ValueError as error:  # a network that no picture of this size goes through, say
        raise UserError("this network cannot be built", got=error, fix="change --channels or --picture-size") from None


def make_config(fields: dict[str, Any]) -> PPOConfig:
    """A PPOConfig from loose fields.

    Raises:
        UserError: unknown name or value out of range.
    """
    unknown = [name for name in fields if name not in PPOConfig.model_fields]
    if unknown:
        near = nearest(unknown[0], [*PPOConfig.model_fields, *TASK])
        raise UserError("unknown setting", got=unknown[0], fix=f"did you mean {near}?" if near else None)
    try:
        return PPOConfig(**fields)
    except ValueError as error:
        raise UserError("a setting is out of its range", got=" ".join(str(error).split())) from None


def pick_device(name: str) -> str:
    """ "auto" is cuda where there is one, else cpu.

    Raises:
        UserError: no such device here.
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError("unknown device", got=name, allowed="auto, cpu, cuda")
    if name.startswith("cuda") and not there:
        built = torch.version.cuda is not None
        why = "no CUDA device is visible" if built else "this torch was built without CUDA"
        fix = "take cpu (on the command line --device cpu), or see `drivetrain doctor`"
        raise UserError(f"the device {name} is not available", got=why, fix=fix)
    return name

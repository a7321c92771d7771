"""Behaviour cloning (Pomerleau 1991): a student learns what was done in recorded drives. Nobody drives meanwhile.

Reading order: `update_once` is one round of updates on samples of all drives that are learned from; the drives that
were held back, whole ones, tell how far what was learned carries. Shapes: N samples, A numbers of an action.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..envs.errors import UserError
from ..envs.task import sim_config
from ..policies.encoders import DENSE
from ..policies.heads import BoundedHead
from ..policies.policy import Policy
from .adam import Adam
from .build import build
from .carry import carry_over
from .checkpoint import load_model
from .config import RACING, task_in
from .demos import Demo
from .drives import Examples, drives_in, examples, read_drive, split
from .exchange import MINARI, import_minari
from .imitation_config import ImitateConfig
from .supervised import cosine, mirrored, smooth_l1, update_average
from .worlds import spaces_of

ADAM_EPS = 1e-5
AT_ONCE = 1_024
"""held back samples that are looked at together"""


class Nowhere:
    """Stands where others have an environment."""

    def close(self) -> None:
        """There is nothing to let go of."""


class CloningLearner:
    """Everything that changes while a student learns from drives, and the round that changes it.

    `student` is trained; `policy`, the running mean of its weights, is kept.

    Args:
        policy: what to begin with.
        learned: samples to learn from.
        held: samples of other drives; may be empty.
        cfg: settings.
        generator: draws samples, on the policy's device.
        total_steps: samples looked at in the whole training.
    """

    def __init__(
        self,
        policy: Policy,
        learned: Examples,
        held: Examples,
        cfg: ImitateConfig,
        generator: torch.Generator,
        total_steps: int,
    ) -> None:
        assert isinstance(policy.head, BoundedHead), "actions by degrees have such a head"
        self.env = Nowhere()
        self.policy, self.head, self.learned, self.held = policy, policy.head, learned, held
        self.cfg, self.generator = cfg, generator
        self.total = max(1, total_steps // cfg.batch_size)
        self.steps, self.frames, self.updates, self.rate = 0, 0, 0, 0.0
        steers = torch.arange(len(self.head.low), device=policy.device) == 0
        self.sign = torch.where(steers, -1.0, 1.0)
        self.scale = torch.where(steers, cfg.steer_scale, 1.0)
        self.weight = torch.where(steers, 1.0, cfg.pedal_coef)
        self.pictures = learned.obs.dtype == torch.uint8
        if not self.pictures:  # all there is to see is known
            self.policy.obs_norm.update(learned.obs)
        self.student = copy.deepcopy(self.policy)
        self.optimizer = Adam(self.student.parameters(), ADAM_EPS)

    def update_once(self) -> dict[str, float]:
        """One round of updates, and a look at the drives held back. Returns its metrics."""
        losses = torch.stack([self._learn() for _ in range(self.cfg.num_updates)])
        found = {"loss/imitation": float(losses.mean()), "diag/learning_rate": self.rate}
        return found | ({"loss/validation": self.validation()} if len(self.held.obs) else {})

    def _learn(self) -> Tensor:
        """One step of the optimiser. Returns the loss."""
        cfg = self.cfg
        index = torch.randint(
            len(self.learned.obs), (cfg.batch_size,), generator=self.generator, device=self.sign.device
        )
        obs, action = self.learned.obs[index], self.learned.action[index]
        if cfg.mirror and self.pictures:
            half = cfg.batch_size // 2
            obs[:half] = mirrored(obs[:half])
            action[:half] *= self.sign
        loss = self._loss(self.student, obs, action)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.optimizer.parameters, cfg.max_grad_norm)
        self.rate = cosine(cfg.learning_rate, cfg.learning_rate_end, self.updates, self.total, cfg.warmup)
        self.optimizer.step(self.rate)
        update_average(self.policy, self.student, self.updates, cfg.weight_average)
        self.updates += 1
        self.steps += cfg.batch_size
        return loss.detach()

    def _loss(self, policy: Policy, obs: Tensor, action: Tensor) -> Tensor:
        does = self.head.to_env(policy.pi(policy.obs_norm(obs)).mode())
        return smooth_l1(does * self.scale, action * self.scale, self.weight, self.cfg.loss_beta)

    @torch.no_grad()
    def validation(self) -> float:
        """Loss of `policy` on the drives held back."""
        parts = zip(self.held.obs.split(AT_ONCE), self.held.action.split(AT_ONCE), strict=True)
        total = torch.stack([self._loss(self.policy, obs, action) * len(obs) for obs, action in parts]).sum()
        return float(total) / len(self.held.obs)

    def begin_from(self, checkpoint: Path) -> None:
        """Take over the weights of a checkpoint folder.

        Raises:
            UserError: damaged (3), or weights of another shape (2).
        """
        carry_over(self.policy, load_model(checkpoint), checkpoint.parent.parent.name)
        self.student.load_state_dict(self.policy.state_dict())

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Rounds until at least total_steps samples were looked at; yields the metrics of each."""
        while self.steps < total_steps:
            yield self.update_once()

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Where the training stands, for the record; it cannot go on, as its samples are not kept."""
        return {}, {"steps": self.steps, "frames": self.frames, "updates": self.updates}


def build_cloning(
    cfg: ImitateConfig, settings: Mapping[str, Any], seed: int, device: str, total_steps: int
) -> CloningLearner:
    """A student of the drives in cfg.drives.

    Args:
        cfg: of the learner.
        settings: flat: the task.
        seed: of weights, samples, and of which drives are held back.
        device: where to compute.
        total_steps: samples looked at in the whole training.

    Raises:
        UserError: no drives, damaged ones, or of another version of the simulator; or settings that do not go together.
    """
    if cfg.core != "none":
        fix = "leave out --core, or take a teacher that drives"
        raise UserError("drives teach students without memory", got=f"core={cfg.core}", allowed="none", fix=fix)
    task, spaces = sim_config(**task_in(settings)), spaces_of(RACING, settings)
    if (len(spaces[0].shape or ()) == 3) == (cfg.encoder in DENSE):
        fix = "take --encoder cnn or resnet for pictures, mlp for numbers"
        raise UserError(f"the encoder {cfg.encoder} does not read these observations", got=spaces[0].shape, fix=fix)
    demos = load(cfg.drives)
    learned, held = (
        _together([examples(demos[k], task) for k in part], device)
        for part in split(range(len(demos)), cfg.held_share, seed)
    )
    policy = build("imitate", cfg, spaces, torch.Generator().manual_seed(seed ^ 0x5EED)).to(device)
    assert isinstance(policy, Policy), "actions by degrees have such a policy"
    held = held or Examples(learned.obs[:0], learned.action[:0])  # type: ignore[union-attr]
    assert learned is not None, "one drive at least is learned from"
    return CloningLearner(policy, learned, held, cfg, torch.Generator(device).manual_seed(seed), total_steps)


def load(drives: str) -> list[Demo]:
    """Drives of a folder, one drive, or those of a dataset, minari:ID.

    Raises:
        UserError: there are none, or some that cannot be read.
    """
    if drives.startswith(MINARI):
        return import_minari(drives.removeprefix(MINARI))
    return [read_drive(file) for file in drives_in(Path(drives))]


def _together(parts: Sequence[Examples], device: str) -> Examples | None:
    """All samples behind each other; None of no drives."""
    return Examples(*(torch.cat(column).to(device) for column in zip(*parts, strict=True))) if parts else None

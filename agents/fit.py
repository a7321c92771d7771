"""Supervised learning: minibatches, a loss, an optimiser; training and validation loss side by side.

Reading order: `Fit.step` is one update, `Fit.measure` one look at both losses. The weights with the lowest validation
loss are kept, and `finish` puts them back. Shapes: B samples of a minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..envs.errors import UserError
from ..policies.encoders import feed_dropout
from ..policies.predictors import Predictor, Scale
from .fit_config import ClassifyConfig, FitConfig, RegressionConfig
from .optimizers import SGD, AdamW
from .samples import Source, Split, in_order
from .supervised import classification, huber, likelihood, mse, rate_at

MEASURED = 4_096
"""samples at most, of training and of validation, that a look at the losses takes"""
MEASURED_AT_ONCE = 512

Loss = Callable[[Any, Tensor], Tensor]
"""of what the predictor says and the target, standardised or a class: a mean over the batch"""
Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""inputs [B, …] and targets [B, …], changed at random"""


@dataclass(frozen=True)
class Problem:
    """What is to be learned."""

    source: Source
    split: Split
    loss: Loss
    augment: Augment | None = None


class Fit:
    """Everything that changes while a predictor learns.

    Args:
        model: the predictor; moved to the device.
        problem: what it is to learn.
        cfg: settings.
        generator: a CPU generator: order of the samples, dropout, augmentation.
        total_steps: updates of the whole training, over which schedules are stretched.
        device: where to compute.

    Raises:
        UserError: nothing is left to train, or a precision that the device lacks.
    """

    def __init__(
        self,
        model: Predictor,
        problem: Problem,
        cfg: FitConfig,
        generator: torch.Generator,
        total_steps: int,
        device: str = "cpu",
    ) -> None:
        self.model, self.problem, self.cfg, self.total_steps = model.to(device), problem, cfg, total_steps
        self.device = torch.device(device)
        if cfg.precision == "bfloat16" and self.device.type != "cuda":
            raise UserError("--precision bfloat16 needs a GPU", got=device, fix="take --precision float32")
        freeze(model, cfg.freeze)
        set_scales(model, problem.source, problem.split.train)
        self.order = Order(problem.split.train, cfg.batch_size, generator)
        self.noise = torch.Generator(self.device).manual_seed(generator.initial_seed() ^ 0xD20)
        feed_dropout(model, self.noise)
        self.optimizer = make_optimizer(model, cfg)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.steps = self.samples = 0
        self.rate = 0.0
        self.sums = torch.zeros(2, device=self.device)  # loss and gradient norm since the last look
        self.looked = 0  # step of the last look
        self.best, self.stale = float("inf"), 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether the end is reached, or validation has not improved for as long as the settings allow."""
        patience = self.cfg.patience
        return self.steps >= self.total_steps or (patience is not None and self.stale >= patience)

    def step(self) -> None:
        """One update."""
        cfg = self.cfg
        x, y = self._take(next(self.order))
        if self.problem.augment is not None:
            x, y = self.problem.augment(x, y, self.noise)
        self.optimizer.zero_grad()
        loss = self._loss(x, y)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        if cfg.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.trained, cfg.max_grad_norm, norm)
        warmup = round(cfg.warmup * self.total_steps)
        rates = cfg.learning_rate, cfg.learning_rate_end
        self.rate = rate_at(cfg.lr_schedule, *rates, self.steps, self.total_steps, warmup)
        self.optimizer.step(self.rate)
        self.sums += torch.stack((loss.detach().float(), norm.float()))
        self.steps += 1
        self.samples += self.order.size

    def measure(self) -> dict[str, float]:
        """Both losses now, without dropout and augmentation; keeps the weights if validation is better than ever."""
        split = self.problem.split
        train, validation = self.loss_over(split.train), self.loss_over(split.validation)
        since = max(1, self.steps - self.looked)
        total, norm = (self.sums / since).tolist()
        self.sums.zero_()
        self.looked = self.steps
        if validation < self.best:
            self.best, self.stale = validation, 0
            self.best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        else:
            self.stale += 1
        return {
            "loss/total": total,
            "loss/train": train,
            "loss/validation": validation,
            "diag/grad_norm": norm,
            "diag/learning_rate": self.rate,
        }

    @torch.no_grad()
    def loss_over(self, rows: Tensor) -> float:
        """Mean loss of the predictor as it is in use; of the first MEASURED rows, which are in random order."""
        self.model.eval()
        rows = rows[:MEASURED]
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for piece in rows.split(MEASURED_AT_ONCE):
            total += len(piece) * self._loss(*self._take(piece)).double()
        self.model.train()
        return float(total) / len(rows)

    def finish(self) -> None:
        """Puts the best weights back, and ends training."""
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        self.model.eval()

    def _take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.problem.source.take(rows)
        return x.to(self.device), y.to(self.device)

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        target = y if self.model.target_scale is None else self.model.target_scale(y)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.precision == "bfloat16"):
            return self.problem.loss(self.model(x), target)


class Order:
    """Minibatches of rows without end: every row once, in random order, then all again in another.

    Args:
        rows: [N].
        size: rows of a minibatch; no more than N.
        generator: of the order.
    """

    def __init__(self, rows: Tensor, size: int, generator: torch.Generator) -> None:
        self.rows, self.size, self.generator = rows, min(size, len(rows)), generator
        self.queue = rows[:0]

    def __next__(self) -> Tensor:
        if len(self.queue) < self.size:
            again = self.rows[torch.randperm(len(self.rows), generator=self.generator)]
            self.queue = torch.cat((self.queue, again))
        batch, self.queue = self.queue[: self.size], self.queue[self.size :]
        return batch


def make_optimizer(model: nn.Module, cfg: FitConfig) -> AdamW | SGD:
    """The optimiser of the settings, over what is not frozen."""
    if cfg.optimizer == "adamw":
        return AdamW(model.parameters(), cfg.weight_decay)
    return SGD(model.parameters(), cfg.weight_decay, cfg.momentum)


def make_loss(cfg: FitConfig) -> Loss:
    """The loss of the settings."""
    if isinstance(cfg, ClassifyConfig):
        return partial(classification, smoothing=cfg.label_smoothing)
    assert isinstance(cfg, RegressionConfig), "the other kind of settings"
    if cfg.loss == "huber":
        return partial(huber, delta=cfg.huber_delta)
    return likelihood if cfg.loss == "likelihood" else mse


def freeze(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Lets parts of a model keep their weights: they get no gradient and no decay.

    Raises:
        UserError: no such part, or nothing is left.
    """
    for name in parts:
        if not hasattr(model, name):
            raise UserError(f"this network has no {name} to freeze", got=name, fix="leave it out of --freeze")
        getattr(model, name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("everything is frozen", got=",".join(parts), fix="leave a part out of --freeze")


def set_scales(model: Predictor, source: Source, rows: Tensor) -> None:
    """Sets the scales of inputs and targets from training rows; two passes, so that no digits are lost."""
    scales = [(k, scale) for k, scale in enumerate((model.scale, model.target_scale)) if isinstance(scale, Scale)]
    for which, scale in scales:
        count, total = 0, torch.zeros_like(scale.mean, device="cpu")
        for piece in in_order(rows):
            values = source.take(piece)[which].to(torch.float64).flatten(0, -2)
            count, total = count + len(values), total + values.sum(0)
        mean, squares = total / count, torch.zeros_like(total)
        for piece in in_order(rows):
            values = source.take(piece)[which].to(torch.float64).flatten(0, -2)
            squares += ((values - mean) ** 2).sum(0)
        scale.set(mean, (squares / count).sqrt())

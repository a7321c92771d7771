"""Adam (Kingma and Ba 2015) by torch's functional form, with its state in plain sight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

BETAS = (0.9, 0.999)


class Adam:
    """Updates parameters in place; the learning rate is an argument of each step.

    Equal to `torch.optim.Adam(fused=True)` bit for bit. That class loads torch's compiler when it is made, which takes
    longer than all the rest of a learner's start.

    Args:
        parameters: what to update; their gradients are read by `step`.
        eps: added to the root of the second moment.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], eps: float) -> None:
        self.parameters, self.eps = list(parameters), eps
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]
        self.first = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.second = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float, only: Sequence[bool] | None = None) -> None:
        """One step at a learning rate, along the gradients of all parameters that have one; or only of some of them."""
        chosen = only or [True] * len(self.parameters)
        used = [k for k, p in enumerate(self.parameters) if chosen[k] and p.grad is not None]
        adam(
            [self.parameters[k] for k in used],
            [self.parameters[k].grad for k in used],  # type: ignore[misc]
            [self.first[k] for k in used],
            [self.second[k] for k in used],
            [],
            [self.steps[k] for k in used],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=self.eps,
            maximize=False,
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name."""
        kinds = {"step": self.steps, "exp_avg": self.first, "exp_avg_sq": self.second}
        return {f"{k}.{name}": tensors[k] for k in range(len(self.parameters)) for name, tensors in kinds.items()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what state_tensors gave.

        Raises:
            KeyError: something is missing.
        """
        for name, here in self.state_tensors().items():
            here.copy_(tensors[name])

"""What a network is made of, as a frozen record (no torch here: the command line reads it for its help)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class PolicyConfig(BaseModel):
    """Encoder, trunk and heads of a policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Literal["mlp"] = Field("mlp", description="network that reads the observation")
    hidden: tuple[int, ...] = Field((64, 64), description="units of the encoder's layers")
    activation: Literal["tanh", "relu", "elu", "silu"] = Field("tanh", description="nonlinearity of the encoder")
    shared_trunk: bool = Field(False, description="one encoder for policy and value instead of one each")
    log_std_min: float = Field(-5.0, description="logarithm of the smallest standard deviation of continuous actions")
    log_std_init: float = Field(-0.5, description="logarithm of the first standard deviation of continuous actions")

    @field_validator("hidden")
    @classmethod
    def _check_hidden(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if any(units < 1 for units in hidden):
            raise ValueError("every layer needs 1 unit or more")
        return hidden

"""What a network is made of, as a frozen record (no torch here: the command line reads it for its help)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class PolicyConfig(BaseModel):
    """Encoder, trunk and heads of a policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Literal["mlp", "resmlp", "cnn", "resnet"] = Field(
        "mlp",
        description="network that reads the observation: mlp, or resmlp with connections around its layers, for "
        "numbers; cnn or resnet for pictures",
    )
    hidden: tuple[int, ...] = Field(
        (64, 64),
        description="units of the encoder's fully connected layers; of resmlp: width, then units inside each block",
    )
    channels: tuple[int, ...] | None = Field(
        None, description="channels of the convolutions of cnn (resnet: of its parts); none = 32,64,64 (16,32,32)"
    )
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = Field(
        "tanh", description="nonlinearity of the encoder"
    )
    norm_obs: bool = Field(True, description="standardise observations by running statistics")
    layer_norm: bool = Field(False, description="layer normalisation before every nonlinearity of the encoder")
    shared_trunk: bool = Field(False, description="one encoder for policy and value instead of one each")
    core: Literal["none", "gru", "lstm", "transformer"] = Field(
        "none",
        description="what is remembered from step to step; with one, policy and value share encoder and core",
    )
    core_size: int = Field(64, ge=1, description="of a core: features it gives, and those it keeps")
    core_layers: int = Field(1, ge=1, description="of core=transformer: layers")
    core_heads: int = Field(4, ge=1, description="of core=transformer: attention heads; divides core_size")
    core_context: int = Field(16, ge=1, description="of core=transformer: steps that a layer looks back")
    head: Literal["auto", "squashed", "gaussian", "beta", "levels"] = Field(
        "auto",
        description="distribution of continuous actions: squashed = normal behind a tanh, gaussian = normal, clipped, "
        "beta, or levels = equal steps from low to high; auto = squashed, or gaussian where a range has no end",
    )
    levels: int = Field(5, ge=2, description="steps of every continuous action under head=levels")
    log_std_min: float = Field(-5.0, description="logarithm of the smallest standard deviation of a normal head")
    log_std_init: float = Field(-0.5, description="logarithm of the first standard deviation of a normal head")

    @field_validator("hidden", "channels")
    @classmethod
    def _check_sizes(cls, sizes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if sizes is not None and any(units < 1 for units in sizes):
            raise ValueError("every layer needs 1 unit or more")
        return sizes

    @model_validator(mode="after")
    def _check_core(self) -> Self:
        if self.core == "transformer" and self.core_size % self.core_heads:
            raise ValueError(f"core_heads={self.core_heads} must divide core_size={self.core_size}")
        return self

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if channels == ():
            raise ValueError("a network for pictures needs 1 convolution or more")
        return channels

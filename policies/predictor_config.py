"""What a network of supervised learning is made of, as a frozen record (no torch here: the command line reads it)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class NetworkConfig(BaseModel):
    """The network"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: tuple[int, ...] = Field(
        (64, 64), description="units of the fully connected layers; of resmlp: width, then units inside each block"
    )
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = Field("tanh", description="nonlinearity")
    layer_norm: bool = Field(False, description="layer normalisation before every nonlinearity")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the dense layers' units left out in training")
    init: Literal["orthogonal", "he", "glorot"] = Field(
        "orthogonal", description="first weights: orthogonal, or normal as by He et al. 2015 or Glorot and Bengio 2010"
    )

    @field_validator("hidden")
    @classmethod
    def _check_hidden(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        return _sizes(hidden)


class VectorConfig(NetworkConfig):
    """The network"""

    encoder: Literal["mlp", "resmlp"] = Field(
        "mlp", description="network that reads the numbers; resmlp has connections around its layers"
    )


class PictureConfig(NetworkConfig):
    """The network"""

    encoder: Literal["cnn", "resnet"] = Field(
        "cnn", description="network that reads the pictures; the convolutions of cnn are small where pictures are"
    )
    channels: tuple[int, ...] | None = Field(
        None, description="channels of the convolutions of cnn (resnet: of its parts); none = 32,64,64 (16,32,32)"
    )

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if channels is None else _sizes(channels)


class SeriesConfig(VectorConfig):
    """The networks"""

    core_size: int = Field(32, ge=1, description="of a core: features it gives, and those it keeps")
    core_layers: int = Field(1, ge=1, description="of the transformer: layers")
    core_heads: int = Field(4, ge=1, description="of the transformer: attention heads; divides core_size")
    core_context: int = Field(32, ge=1, description="of the transformer: steps that a layer looks back")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.core_size % self.core_heads:
            raise ValueError(f"core_heads={self.core_heads} must divide core_size={self.core_size}")
        return self


def _sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not sizes or any(units < 1 for units in sizes):
        raise ValueError("1 layer or more is needed, each of 1 unit or more")
    return sizes

"""Settings of learning by imitation (no torch here: the command line reads them for its help)."""

from __future__ import annotations

from pydantic import Field, model_validator

from ..policies.config import PolicyConfig


class ImitateConfig(PolicyConfig):
    """Imitation (DAgger) and its network"""

    teacher: str = Field(
        "expert",
        description="who is imitated: expert, a run that sees state or lidar, or drives = whoever drove what is "
        "recorded; then nobody drives, and --steps counts samples",
    )
    drives: str = Field("runs/drives", description="of teacher=drives: folder of recorded drives, or one of them")
    held_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="of teacher=drives: share of the drives, whole ones, that only loss/validation sees",
    )
    num_envs: int = Field(64, ge=1, description="cars that drive at once")
    num_steps: int = Field(32, ge=1, description="decisions of every car between two rounds of updates")
    num_updates: int = Field(80, ge=1, description="updates in a round")
    batch_size: int = Field(256, ge=2, description="samples in an update")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False, description="highest learning rate of Adam")
    learning_rate_end: float = Field(
        3e-5, gt=0, allow_inf_nan=False, description="learning rate at the end, reached along a cosine"
    )
    warmup: int = Field(100, ge=0, description="updates in which the learning rate rises from 0")
    weight_average: float = Field(
        0.998, ge=0, lt=1, description="decay, per update, of the running mean of weights that drives and is kept"
    )
    teacher_until: float = Field(
        0.5, gt=0, le=1, description="share of --steps in which the teacher's share of driving falls from 1 to 0"
    )
    switch_prob: float = Field(
        0.025, gt=0, le=1, description="probability that it is drawn anew who drives a car, per decision"
    )
    burst_prob: float = Field(0.02, ge=0, le=1, description="probability that a burst of noise begins, per decision")
    burst_steps: int = Field(5, ge=1, description="decisions that the longest burst lasts")
    burst_steer: float = Field(0.25, ge=0, le=1, description="largest noise on the steering, of 1 = full lock")
    burst_pedal: float = Field(0.5, ge=0, le=1, description="largest noise on a pedal, of 1 = full")
    mirror: bool = Field(True, description="of pixels: mirror half of every batch, and what belongs to it")
    loss_beta: float = Field(
        0.2, gt=0, allow_inf_nan=False, description="weighted error of an action at which the loss turns linear"
    )
    steer_scale: float = Field(5.0, gt=0, allow_inf_nan=False, description="factor on the error of the steering")
    pedal_coef: float = Field(0.5, ge=0, allow_inf_nan=False, description="weight of the pedals in the loss")
    aux_coef: float = Field(
        0.5,
        ge=0,
        allow_inf_nan=False,
        description="weight of telling speed, yaw rate, place and heading from what is seen, in training alone",
    )
    max_grad_norm: float = Field(1.0, gt=0, allow_inf_nan=False, description="gradients are scaled down to this norm")
    num_tracks: int = Field(256, ge=1, description="tracks in the training pool")
    patience: int = Field(
        50, ge=0, description="frames without a new tile after which a training episode ends; 0 = never"
    )
    max_offset: float = Field(
        3.5, ge=0, le=4, description="of the expert: farthest that its line leaves the centre of the road, u"
    )
    v_max: float = Field(90.0, gt=0, le=150, description="of the expert: highest speed, u/s")
    a_lat: float = Field(150.0, gt=0, le=500, description="of the expert: sideways acceleration in a bend, u/s²")
    a_brake: float = Field(120.0, gt=0, le=500, description="of the expert: braking that it plans with, u/s²")
    gas_gain: float = Field(0.1, gt=0, le=10, description="of the expert: gas per u/s too slow")
    brake_gain: float = Field(0.08, gt=0, le=10, description="of the expert: brake per u/s too fast")
    brake_max: float = Field(0.4, gt=0, le=1, description="of the expert: hardest brake, of 1 = full")
    window: int = Field(
        32,
        ge=2,
        description="of a --core: decisions behind each other that are learned from together; in the first quarter of "
        "them memory only fills",
    )

    @model_validator(mode="after")
    def _check_window(self) -> ImitateConfig:
        if self.core != "none" and self.window > self.num_steps:
            raise ValueError(f"window={self.window} must not be more than num_steps={self.num_steps}")
        if self.core != "none" and 2 * self.window > self.batch_size:
            raise ValueError(f"batch_size={self.batch_size} must hold two windows of {self.window} or more")
        return self


EXPERT = ("max_offset", "v_max", "a_lat", "a_brake", "gas_gain", "brake_gain", "brake_max")
"""settings of the scripted teacher; by default those of envs.expert.SEEABLE"""

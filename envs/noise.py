"""Random numbers as a hash of (seed, lane, episode, stream): no car knows its neighbours, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

TRACK_STREAM = 1
"""draws the track of an episode"""
MASK = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """Two rounds of xor-shift and multiply modulo 2³² on int64 (constants of the "lowbias32" hash, C. Wellons 2018)."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def hash_u32(seed: int, lane: Tensor, episode: Tensor, stream: int) -> Tensor:
    """[B] int64 in [0, 2³²): one draw for every lane [B] and episode [B] int64."""
    low, high = seed & MASK, (seed >> 32) & MASK
    key = _mix(torch.full_like(lane, low) ^ 0x9E3779B9)
    for word in (torch.full_like(lane, high), lane, episode, torch.full_like(lane, stream)):
        key = _mix((key + word * 0x9E3779B1) & MASK)
    return key

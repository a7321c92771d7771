"""What a driver's observation holds, in a form that can be drawn: places in the world, beams, or pictures."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from .camera import Camera
from .hud import LABEL, PANEL, font, unit_of
from .lidar import MOTION_SIZE, beam_directions
from .observe import OBS_SPEC
from .sight import look_fast
from .sim import SimConfig
from .state import CarState
from .track import Tracks
from .view import PALETTE, channels

Array = np.ndarray
Surface = Any  # pygame.Surface

POINT, BEAM, BEHIND = (255, 255, 255), (240, 228, 66), (230, 159, 0)
RIM = (20, 22, 27)
SIDE = 200
"""layout units, height of one picture of the inset"""


@dataclass(frozen=True)
class Seen:
    """One observation."""

    points: Array | None = None  # [n, 2] u, places of the centre line ahead
    beams: Array | None = None  # [n, 2] u, where each beam ends
    origin: Array | None = None  # [2] u, where the beams begin
    pictures: tuple[Array, ...] = ()  # uint8 [H, W, 3] each, the newest last


def seen_in_world(tracks: Tracks, state: CarState, config: SimConfig) -> Seen:
    """What numbers tell car 0 of state: look-ahead points (obs "state"), or ends of beams ("lidar")."""
    car = state.take(state.track.new_tensor([0])).map(lambda x: x.cpu().contiguous())
    obs = look_fast(tracks, car, config)[0].double().numpy()
    heading, origin = float(car.heading[0]), car.pos[0].double().numpy()
    axes = np.array([(np.cos(heading), np.sin(heading)), (-np.sin(heading), np.cos(heading))])
    if config.obs == "lidar":
        # a beam is negative where the car stands off the road: the road begins at so much
        lengths = np.abs(obs[MOTION_SIZE:]) * config.beam_range
        ends = lengths[:, None] * beam_directions(config.beams).double().numpy()
        return Seen(beams=origin + ends @ axes, origin=origin)
    places = np.stack((_element(obs, "ahead_right"), _element(obs, "ahead_forward")), -1)
    return Seen(points=origin + places @ axes)


def seen_pictures(obs: Tensor, config: SimConfig) -> Seen:
    """The stack of pictures in an observation uint8 [H, W, C·k]."""
    array = obs.cpu().numpy()
    depth = channels(config)
    layers = [array[..., i : i + depth] for i in range(0, array.shape[-1], depth)]
    if config.picture == "palette":
        colours = np.array(PALETTE, np.uint8)
        layers = [colours[layer[..., 0]] for layer in layers]
    return Seen(pictures=tuple(np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:2], 3))) for x in layers))


def _element(obs: Array, name: str) -> Array:
    start = 0
    for element in OBS_SPEC:
        if element.name == name:
            return obs[start : start + element.size] * element.scale
        start += element.size
    raise KeyError(name)


def draw_seen(pygame: ModuleType, surface: Surface, camera: Camera, seen: Seen) -> None:
    """Points and beams, on the surface that the camera draws on."""
    size = max(2.0, 0.45 * camera.scale)
    if seen.beams is not None and seen.origin is not None:
        origin = camera.pixels(seen.origin).tolist()
        for end in camera.pixels(seen.beams).tolist():
            pygame.draw.line(surface, BEAM, origin, end, max(1, round(0.1 * camera.scale)))
            pygame.draw.circle(surface, RIM, end, size)
            pygame.draw.circle(surface, BEAM, end, 0.7 * size)
    if seen.points is not None:
        for point in camera.pixels(seen.points).tolist():
            pygame.draw.circle(surface, RIM, point, size)
            pygame.draw.circle(surface, POINT, point, 0.7 * size)


def draw_pictures(pygame: ModuleType, surface: Surface, pictures: tuple[Array, ...], bottom: int, room: int) -> int:
    """The stack in the lower left corner above row `bottom`, oldest first, at most room px wide; returns its top."""
    u = unit_of(surface.get_size())
    face = font(pygame, round(17 * u))
    pad, line = round(8 * u), face.height + 2
    count = len(pictures)
    height, width, _ = pictures[0].shape
    scale = min(SIDE * u / height, (room - pad * (count + 1)) / (count * width))
    scale = int(2 * scale) / 2 if scale >= 1 else scale  # pixels stay squares, nearly
    tile = (max(1, round(width * scale)), max(1, round(height * scale)))
    box = (pad, bottom - pad - tile[1] - line - 2 * pad, count * (tile[0] + pad) + pad, tile[1] + line + 2 * pad)
    panel = pygame.Surface(box[2:], pygame.SRCALPHA, 32)
    pygame.draw.rect(panel, (*PANEL, 225), panel.get_rect(), border_radius=pad)
    title = "the network sees" if count == 1 else f"the network sees, oldest of {count} first"
    panel.blit(face.render(title, LABEL), (pad, pad // 2 + 1))
    for index, picture in enumerate(pictures):
        image = pygame.image.frombuffer(picture, (width, height), "RGB")
        panel.blit(pygame.transform.scale(image, tile), (pad + index * (tile[0] + pad), line + pad))
    surface.blit(panel, box[:2])
    return int(box[1])

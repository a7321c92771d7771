"""One car behind Gymnasium's interface: the batched simulator with a batch of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import NDArray

from .actions import action_space, check_action, to_controls
from .errors import UserError, nearest
from .paint import Paint, paint, random_colours
from .sight import observation_space
from .sim import Sim, decide
from .spec import DT
from .state import CarState
from .task import sim_config
from .track import Tracks, build_tracks, generate
from .viewer import Viewer
from .window import Window

RENDER_MODES = ("human", "rgb_array")
RENDER_SIZES = {"human": (960, 720), "rgb_array": (600, 400)}
"""px, width and height"""


def check_render_mode(render_mode: str | None, allowed: tuple[str, ...] = RENDER_MODES) -> None:
    """Raises UserError for a render_mode that is neither None nor among the allowed."""
    if render_mode is not None and render_mode not in allowed:
        close = nearest(str(render_mode), allowed)
        fix = f"did you mean {close!r}?" if close else None
        raise UserError("unknown render_mode", got=repr(render_mode), allowed=("None", *allowed), fix=fix)


class RacingEnv(gymnasium.Env[NDArray[Any], Any]):
    """`drivetrain/Racing-v0`: the twin of CarRacing-v3, with one car.

    An action is held for frame_skip frames, rewards are summed, and stepping stops at the frame that ends the episode.
    `truncated` comes after 1,000 frames at every skip. `info` is {"lap_finished": bool} at a lap's end or off the
    field, else {}. `reset(seed=s)` builds Gymnasium's track of seed s; resets without a seed continue its random stream
    as Gymnasium does, colours included. docs/environment.md is the full specification.

    Args:
        obs: "state": float32 [OBS_SIZE], see drivetrain.envs.observe.OBS_SPEC; "lidar": float32 [8 + beams], see
            drivetrain.envs.lidar; "pixels": uint8 [H, W, C·k], see drivetrain.envs.view.
        actions: "continuous", "pedals", "discrete" or "macro", see drivetrain.envs.actions.
        frame_skip: frames (of 0.02 s) an action is held for.
        lap_rule: "all" tiles finish a lap (CarRacing-v3 as released), or "percent": over 95 % of them, at the start.
        domain_randomize: other colours in every episode, drawn as CarRacing-v3 draws them.
        render_mode: None, "rgb_array" (uint8 [400, 600, 3]) or "human" (a window, drawn at every step).
        picture: colours of pixels: "rgb", "grey", or "palette" (numbers of drivetrain.envs.view.PALETTE).
        picture_size: columns of pixels: 64, 84 or 96.
        crop: pixels without the rows of indicators.
        indicators: "original", or "random": the score is written in another way in every episode.
        frame_stack: pictures that an observation holds, the newest last.
        beams: of lidar, 1 to 256.
        beam_range: u, how far a beam of lidar reaches.
        hide_motion: numbers that tell how fast the car moves are 0.

    Raises:
        UserError: an argument unknown or out of range.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": round(1 / DT)}  # noqa: RUF012  (Gymnasium's own way)

    def __init__(  # noqa: PLR0913  (the keyword arguments of gymnasium.make)
        self,
        obs: str = "state",
        actions: str = "continuous",
        frame_skip: int = 1,
        lap_rule: str = "all",
        domain_randomize: bool = False,
        render_mode: str | None = None,
        picture: str = "rgb",
        picture_size: int = 96,
        crop: bool = False,
        indicators: str = "original",
        frame_stack: int = 1,
        beams: int = 19,
        beam_range: float = 40.0,
        hide_motion: bool = False,
    ) -> None:
        self.config = sim_config(
            obs=obs,
            actions=actions,
            frame_skip=frame_skip,
            lap_rule=lap_rule,
            picture=picture,
            picture_size=picture_size,
            crop=crop,
            indicators=indicators,
            domain_randomize=domain_randomize,
            frame_stack=frame_stack,
            beams=beams,
            beam_range=beam_range,
            hide_motion=hide_motion,
        )
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1 / (DT * self.config.frame_skip)))}
        self.observation_space: Space[Any] = observation_space(self.config)
        self.action_space: Space[Any] = action_space(self.config.actions)
        # the original, too, draws colours before the first reset
        self._colours = random_colours(self.np_random) if self.config.domain_randomize else None
        self._episode = 0  # since the last seed
        self._sim: Sim | None = None
        self._running = False
        self._before: CarState  # the car when the last action was taken
        self._final: CarState | None = None  # the car where the episode ended
        self._viewer: Viewer | None = None
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start on Gymnasium's track of the seed, or on the next of its random stream.

        Args:
            seed: of track and colours.
            options: {"randomize": False} keeps the colours of the episode before; without domain_randomize it has no
                meaning.

        Returns:
            The observation, and {}.
        """
        super().reset(seed=seed)
        self._episode = 0 if seed is not None else self._episode + 1
        if self.config.domain_randomize and (options or {}).get("randomize", True):
            self._colours = random_colours(self.np_random)
        known = -1 if seed is None or seed >= 2**63 else seed  # the track's number, where int64 holds it
        self._sim = Sim(build_tracks([generate(self.np_random)], [known]), 1, self.config)
        obs = self._sim.reset(self._paint())[0].numpy().copy()
        self._running, self._before, self._final = True, self._sim.state.map(torch.clone), None
        if self.render_mode == "human":
            self._show()
        return obs, {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Hold an action for frame_skip frames, or up to the frame that ends the episode.

        Raises:
            UserError: before the first reset; after the episode's end; an action of the wrong shape or dtype, out of
                range, or not finite.
        """
        if not self._running:
            what = "step before reset" if self._sim is None else "step after the episode's end"
            raise UserError(what, fix="call reset() first")
        array = np.asarray(action)
        check_action(self.config.actions, array)
        batch = torch.as_tensor(array)[None]
        sim = self.sim
        for name, kept in vars(self._before).items():
            kept.copy_(getattr(sim.state, name))
        outcome = sim.step(batch)
        terminated, truncated = bool(outcome.terminated), bool(outcome.truncated)
        if terminated or truncated:
            # the simulator is at the start of another episode by now: run the last step once more for its end
            controls = to_controls(self.config.actions, batch)
            self._final, _, _ = decide(self.tracks, self._before, sim.lanes, controls, self.config)
            self._running = False
        if self.render_mode == "human":
            self._show()
        info = {"lap_finished": bool(outcome.lap_finished)} if terminated else {}
        return outcome.next_obs[0].numpy().copy(), float(outcome.reward), terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]  # Gymnasium's type is a free variable
        """The picture uint8 [400, 600, 3] of "rgb_array"; "human" draws by itself and returns None.

        Raises:
            UserError: before the first reset.
        """
        if self.render_mode is None:
            gymnasium.logger.warn('render() without a render_mode; give one: make(…, render_mode="rgb_array")')
            return None
        if self.render_mode == "human":
            self._show()
            return None
        return self._painter().frame(self.tracks, self.car_state())

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    @property
    def sim(self) -> Sim:
        """The simulator of the present episode.

        Raises:
            UserError: before the first reset.
        """
        if self._sim is None:
            raise UserError("no car before reset", fix="call reset() first")
        return self._sim

    @property
    def tracks(self) -> Tracks:
        """The road driven on, as Tracks of one row."""
        return self.sim.tracks

    def car_state(self) -> CarState:
        """The car now, as a batch of one on row 0 of `tracks`; after an episode's end, where it ended."""
        return (self._final or self.sim.state).map(torch.clone)

    def _paint(self) -> Paint:
        """What this episode is painted with."""
        lane = torch.zeros(1, dtype=torch.int64)
        random = self.config.indicators == "random"
        found = paint(int(self.np_random_seed), lane, torch.full_like(lane, self._episode), False, random)
        return found if self._colours is None else replace(self._colours, score=found.score)

    def _painter(self) -> Viewer:
        if self._viewer is None and self.render_mode is not None:
            self._viewer = Viewer(RENDER_SIZES[self.render_mode])
        assert self._viewer is not None
        return self._viewer

    def _show(self) -> None:
        if self._window is None:
            self._window = Window(RENDER_SIZES["human"], "drivetrain/Racing-v0", must_be_seen=False)
        self._window.pressed()  # an unread queue would make the desktop call the window dead
        surface = self._painter().draw(self.tracks, self.car_state())
        self._window.show(surface, 1 / (DT * self.config.frame_skip))

"""Gymnasium's own CarRacing-v3 behind the observations, action sets and frame skip of the batched simulator.

Physics, track, rewards and episode ends are the original's, untouched: this file translates actions on the way in and
reads the car's state from Box2D on the way out. The original draws its picture in every frame; here it does so only
when somebody looks at it, because drawing takes nearly all of its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Space
from numpy.typing import NDArray
from torch import Tensor

from .actions import DISCRETE, action_space, check_action, to_controls
from .errors import UserError
from .sight import look_fast, observation_space
from .sim import SimConfig
from .spec import CAR, DT, RULES
from .state import CarState
from .task import sim_config, task_of
from .track import Centreline, Tracks, build_tracks, centreline_from_points
from .view import fill, process, push

NOT_HERE = ("lap_rule", "indicators")
"""of a task: the original has its own"""
INSTALL = 'pip install "gymnasium[box2d]"'


class OriginalEnv(gymnasium.Env[NDArray[Any], Any]):
    """The real CarRacing-v3 with our observations and actions.

    An action is held for frame_skip frames, rewards are summed, and stepping stops at the frame that ends the episode.
    `truncated` comes after 1,000 frames at every skip. `info` is the original's: {"lap_finished": bool} at an end of
    its own, else {}. `reset(seed=s)` builds Gymnasium's track of seed s; resets without a seed continue its random
    stream.

    Args:
        obs: "state" (float32 [OBS_SIZE], see drivetrain.envs.observe), "lidar" (float32 [8 + beams], see
            drivetrain.envs.lidar) or "pixels" (uint8 [H, W, C·k]: its own picture, see drivetrain.envs.view).
        actions: "continuous", "pedals", "discrete" or "macro" (see drivetrain.envs.actions).
        frame_skip: frames an action is held for.
        render_mode: None, "human", "rgb_array" or "state_pixels", as the original takes it.
        domain_randomize: other colours in every episode, as the original takes it.
        picture, picture_size, crop, frame_stack, beams, beam_range, hide_motion: see
            drivetrain.envs.gym_single.RacingEnv.

    Raises:
        UserError: unknown argument, or Box2D or pygame missing.
    """

    metadata = {"render_modes": ["human", "rgb_array", "state_pixels"], "render_fps": round(1 / DT)}  # noqa: RUF012

    core: Any
    """the original environment, an instance of gymnasium.envs.box2d.car_racing.CarRacing"""

    def __init__(  # noqa: PLR0913  (those of RacingEnv)
        self,
        obs: str = "state",
        actions: str = "continuous",
        frame_skip: int = 1,
        render_mode: str | None = None,
        domain_randomize: bool = False,
        picture: str = "rgb",
        picture_size: int = 96,
        crop: bool = False,
        frame_stack: int = 1,
        beams: int = 19,
        beam_range: float = 40.0,
        hide_motion: bool = False,
    ) -> None:
        self.config = sim_config(
            obs=obs,
            actions=actions,
            frame_skip=frame_skip,
            picture=picture,
            picture_size=picture_size,
            crop=crop,
            domain_randomize=domain_randomize,
            frame_stack=frame_stack,
            beams=beams,
            beam_range=beam_range,
            hide_motion=hide_motion,
        )
        self.action_space: Space[Any] = action_space(self.config.actions)
        self.observation_space: Space[Any] = observation_space(self.config)
        self.core = _make_core(render_mode, self.config.domain_randomize)
        self.actions, self.frame_skip, self.render_mode = self.config.actions, self.config.frame_skip, render_mode
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / (DT * self.frame_skip)))}
        self.spec = EnvSpec(
            "drivetrain/Original-v0",
            entry_point="drivetrain.envs.original:OriginalEnv",
            reward_threshold=900.0,
            disable_env_checker=True,
            order_enforce=False,
            kwargs={**_arguments(self.config), "render_mode": render_mode},
        )
        self._pictures = self.config.obs == "pixels"
        self._stack: tuple[int, Tensor] | None = None  # pictures of the decisions so far, and the frame of the newest
        self._line: Centreline | None = None
        self._seed = -1  # of the line
        self._tracks: Tracks | None = None
        self._frames = 0
        self._controls = np.zeros(3)
        self._visited: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._visited_count = -1
        # the picture is drawn only while _drawing; _shown is the score it would have had otherwise
        self._drawing, self._shown = False, 0.0
        # on the instance: other environments of this class, and the class itself, stay as they are
        self.core._render = self._render_if_wanted

    @classmethod
    def of(cls, config: SimConfig, render_mode: str | None = None) -> OriginalEnv:
        """The original with the observations and actions of a simulator; its lap rule and indicators are its own."""
        return cls(**_arguments(config), render_mode=render_mode)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start on Gymnasium's track of the seed, or on the next of its random stream.

        options={"randomize": False} keeps the colours of the episode before, where domain_randomize is on.
        """
        self.restart(seed, options)
        return self.observation(), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Hold an action for frame_skip frames.

        Raises:
            UserError: before the first reset; an action of the wrong shape, out of range, or not finite.
        """
        if self._line is None:
            raise UserError("step before reset", fix="call reset() first")
        action = np.asarray(action)
        check_action(self.actions, action)
        reward, terminated, truncated, info = self.advance(controls_of(self.actions, torch.from_numpy(action[None]))[0])
        return self.observation(), reward, terminated, truncated, info

    def render(self) -> Any:
        """The original's rendering in the render_mode given to the constructor; None without one."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() without a render_mode; give one to drivetrain.original(render_mode=…)")
            return None
        self._drawing = True
        return self.core.render()

    def close(self) -> None:
        """Close the original's window, if there is one."""
        if self.core.screen is not None:
            import pygame

            # the original's close() would quit pygame as a whole, under the feet of everything else that draws
            pygame.display.quit()
            self.core.screen, self.core.isopen = None, False

    def restart(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """reset() without an observation."""
        self._drawing = self._pictures
        self.core.reset(seed=seed, options=options)
        # one stream of random numbers: the original's
        self._np_random, self._np_random_seed = self.core._np_random, self.core._np_random_seed
        self._seed = -1 if seed is None or seed >= 2**63 else seed  # the track's number, where int64 holds it
        self._line, self._tracks = centreline_from_points(np.asarray(self.core.track)), None
        self._frames, self._visited_count = 0, -1
        self._controls, self._stack = np.zeros(3), None

    def advance(self, controls: NDArray[np.float64]) -> tuple[float, bool, bool, dict[str, Any]]:
        """Hold controls [3] (steer -1 left to 1 right, gas, brake) for frame_skip frames, without an observation.

        Returns:
            Summed reward, terminated, truncated, the original's info of the last frame.
        """
        total, terminated, truncated = 0.0, False, False
        info: dict[str, Any] = {}
        for frame in range(self.frame_skip):
            last = frame == self.frame_skip - 1 or self._frames == RULES.time_limit - 1
            self._drawing = self._pictures and last
            _, reward, terminated, _, info = self.core.step(controls)
            total += float(reward)
            self._frames += 1
            truncated = self._frames >= RULES.time_limit
            if terminated or truncated:
                break
        if terminated and self._pictures and not self._drawing:
            self._draw_late()
        self._controls = controls
        return total, bool(terminated), truncated, info

    def observation(self) -> NDArray[Any]:
        """What the agent sees now. Pictures are stacked as often as this is asked for, once a decision."""
        if not self._pictures:
            return look_fast(self.tracks, self.car_state().map(Tensor.contiguous), self.config)[0].numpy()
        if self._stack is None or self._stack[0] != self._frames:
            picture = process(torch.from_numpy(self.core.state)[None], self.config)
            if self._stack is None:
                self._stack = self._frames, fill(picture, self.config.frame_stack)
            elif self.config.frame_stack == 1:
                self._stack = self._frames, picture
            else:
                self._stack = self._frames, push(self._stack[1], picture)
        seen: NDArray[Any] = self._stack[1][0].numpy()
        return seen

    @property
    def frames(self) -> int:
        """Frames of the episode so far."""
        return self._frames

    @property
    def line(self) -> Centreline:
        """The road driven on.

        Raises:
            UserError: before the first reset.
        """
        if self._line is None:
            raise UserError("no track before reset", fix="call reset() first")
        return self._line

    @property
    def tracks(self) -> Tracks:
        """The road driven on, as Tracks of one row (built when first asked for)."""
        if self._tracks is None:
            self._tracks = build_tracks([self.line], [self._seed])
        return self._tracks

    def car_state(self) -> CarState:
        """The car as Box2D has it now, as a batch of one on row 0 of `tracks`."""
        return read_states([self], self.tracks.max_tiles)

    def _render_if_wanted(self, mode: str) -> Any:
        if mode == "state_pixels" and not self._drawing:
            self._shown = self.core.reward
            return None
        return type(self.core)._render(self.core, mode)

    def _draw_late(self) -> None:
        """Draw the frame just run, with the score it showed: the original draws before it charges for the frame."""
        after, self.core.reward = self.core.reward, self._shown
        self.core.state = type(self.core)._render(self.core, "state_pixels")
        self.core.reward = after


def _arguments(config: SimConfig) -> dict[str, Any]:
    return {name: value for name, value in task_of(config).items() if name not in NOT_HERE}


def controls_of(actions: str, action: Tensor) -> NDArray[np.float64]:
    """[B, 3] steer, gas, brake of B valid actions of an action set, as precise as the original takes them."""
    if actions == "discrete":
        # 0.2 and 0.8 rounded to float32 would not move exactly like the original's own five actions
        return np.array(DISCRETE)[action.numpy()]
    return to_controls(actions, action).double().numpy()


def read_states(envs: Sequence[OriginalEnv], max_tiles: int) -> CarState:
    """The cars of B originals in one record; car i drives on row i of a Tracks with max_tiles columns."""
    numbers = np.array([_numbers(env) for env in envs])
    visited = np.zeros((len(envs), max_tiles), np.bool_)
    for row, env in enumerate(envs):
        flags = _visited(env)
        visited[row, : len(flags)] = flags
    real = torch.from_numpy(numbers.astype(np.float32))
    counts = torch.from_numpy(numbers[:, 36:38].astype(np.int64))
    four = [real[:, i : i + 4] for i in range(7, 35, 4)]
    return CarState(
        track=torch.arange(len(envs)),
        pos=real[:, 0:2],
        heading=real[:, 2],
        prev_heading=real[:, 3],
        velocity=real[:, 4:6],
        yaw_rate=real[:, 6],
        spin=four[0],
        phase=four[1],
        joint=four[2],
        joint_rate=four[3],
        press=four[4],
        gas=real[:, 35],
        road=four[5] > 0,
        on_start=four[6] > 0,
        visited=torch.from_numpy(visited),
        visited_count=counts[:, 0],
        frames=counts[:, 1],
        controls=_controls(envs),
    )


def _numbers(env: OriginalEnv) -> list[float]:
    """All but the visits, as one row: see the columns in read_states."""
    car = env.core.car
    hull, wheels = car.hull, car.wheels
    heading, yaw_rate = hull.angle, hull.angularVelocity
    (x, y), (vx, vy) = hull.position, hull.linearVelocity
    # momentum of hull and wheels together; each stored velocity belongs to its own body's centre
    speeds = [wheel.linearVelocity for wheel in wheels]
    vx = (CAR.hull_mass * vx + CAR.wheel_mass * sum(v[0] for v in speeds)) / CAR.mass
    vy = (CAR.hull_mass * vy + CAR.wheel_mass * sum(v[1] for v in speeds)) / CAR.mass
    start = env.core.road[0]
    return [
        x - CAR.com_y * np.sin(heading),
        y + CAR.com_y * np.cos(heading),
        heading,
        heading - DT * yaw_rate,
        vx,
        vy,
        yaw_rate,
        *(wheel.omega for wheel in wheels),
        *(wheel.phase for wheel in wheels),
        *(wheel.joint.angle for wheel in wheels),
        *(wheel.joint.speed for wheel in wheels),
        *(_press(wheel) for wheel in wheels),
        *(len(wheel.tiles) > 0 for wheel in wheels),
        *(start in wheel.tiles for wheel in wheels),
        wheels[2].gas,
        env.core.tile_visited_count,
        env.frames,
    ]


def _press(wheel: Any) -> float:
    """Box2D keeps the impulse for the next frame only while the joint is at its stop"""
    return abs(wheel.joint.GetReactionTorque(1.0)) if abs(wheel.joint.angle) >= CAR.joint_limit else 0.0


def _visited(env: OriginalEnv) -> NDArray[np.bool_]:
    """[n] bool; read tile by tile only after a new one was reached"""
    if env._visited_count != env.core.tile_visited_count:
        env._visited = np.array([tile.road_visited for tile in env.core.road], np.bool_)
        env._visited_count = env.core.tile_visited_count
    return env._visited


def _controls(envs: Sequence[OriginalEnv]) -> Tensor:
    return torch.from_numpy(np.array([env._controls for env in envs], np.float32))


def _make_core(render_mode: str | None, domain_randomize: bool) -> Any:
    try:
        from gymnasium.envs.box2d.car_racing import CarRacing
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError("the original CarRacing-v3 needs Box2D and pygame", got=str(error), fix=INSTALL) from error
    allowed = [None, *CarRacing.metadata["render_modes"]]
    if render_mode not in allowed:
        raise UserError("unknown render_mode", got=repr(render_mode), allowed=allowed)
    return CarRacing(render_mode=render_mode, continuous=True, domain_randomize=domain_randomize)

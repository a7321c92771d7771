"""What `watch` shows: drivers on one track, or any Gymnasium environment, frame by frame as surfaces for a window."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from drivetrain.agents.evaluate import scored
from drivetrain.drive import Drive
from drivetrain.drivers import HUMAN, SCRIPTED
from drivetrain.envs.hands import KEYS, Hands
from drivetrain.envs.hud import draw_caption
from drivetrain.envs.panel import Mind, draw_banner, draw_help, draw_keys, help_height
from drivetrain.envs.seen import Seen, seen_in_world, seen_pictures
from drivetrain.envs.spec import DT
from drivetrain.envs.viewer import CAMERAS, Cast, Shot, Viewer, load_pygame
from drivetrain.scenes import RACING, titles_of

if TYPE_CHECKING:
    from drivetrain.agents.demos import DemoRecorder
    from drivetrain.drivers import Driver
    from drivetrain.foreign import GymScene

__all__ = ["Frame", "GymStage", "Key", "RaceStage", "Stage"]

Surface = Any  # pygame.Surface
Entries = tuple[tuple[str, str], ...]
TRAIL_EVERY = 3  # frames between points of the line driven


@dataclass(frozen=True)
class Key:
    """A key of the window."""

    name: str
    short: str  # what it does, in the line of help
    long: str  # the same in the box


@dataclass(frozen=True)
class Frame:
    """What lies over the picture, whatever is on the stage."""

    notes: tuple[str, ...] = ()  # go on in the caption, such as "2x"
    banner: str = ""
    help: Entries = ()
    keys: Entries = ()


class Stage(Protocol):
    """One episode after the other."""

    fps: float  # frames in a second of the environment's time
    keys: tuple[Key, ...]  # that only this stage knows

    def begin(self, seed: int) -> None:
        """To the start of the episode of a seed."""

    def advance(self, held: Collection[str]) -> bool:
        """One frame, with these keys held; False if the episode had ended before."""

    def press(self, key: str) -> str | None:
        """A key: what to tell about it, "" for nothing, None if it has no meaning here."""

    def draw(self, frame: Frame) -> Surface:
        """The picture now."""

    def results(self) -> list[tuple[str, float, int]]:
        """(who, score, frames) of every driver."""

    def finish(self, cut: bool) -> list[Path]:
        """The episode is over, or is left before its end (cut); returns the files that were kept of it."""

    def close(self) -> None:
        """Let go of the environments."""


class RaceStage:
    """Drivers on one track, the first one's car the user's own and the others ghosts.

    Args:
        drivers: who drives; a human must be the first.
        env_name: "racing" or "CarRacing-v3".
        viewer: draws.
        hands: of the user.
        out: folder for what was driven by hand.
        player: name of whom drives by hand.

    Raises:
        UserError: a driver's weights are damaged; the original without Box2D.
    """

    fps = 1 / DT

    def __init__(
        self, drivers: Sequence[Driver], env_name: str, viewer: Viewer, hands: Hands, out: Path, player: str
    ) -> None:
        self.drives = [Drive(replace(d, sim_config=scored(d.sim_config)), env_name) for d in drivers]
        self._minds = [self._reader(driver) for driver in drivers]
        self._viewer, self._hands, self._out, self._player = viewer, hands, out, player
        self._camera, self._followed, self._sees = 0, 0, False
        self._held: Collection[str] = ()
        self._trails: list[list[np.ndarray]] = []
        self._thought: tuple[tuple[int, int], Mind] | None = None
        self.is_human = drivers[0].key == HUMAN
        if self.is_human:
            self._take_over()
        self.keys = _keys(self.is_human, len(drivers) > 1)

    def begin(self, seed: int) -> None:
        """To the start of the episode of a seed; the car is given back."""
        from drivetrain.agents.demos import DemoRecorder

        for drive in self.drives:
            drive.begin(seed)
        if not self.is_human:
            self.drives[0].hand = None
        self._hands.let_go()
        self._seed, self._thought = seed, None
        self._trails = [[] for _ in self.drives]
        self._recorder: DemoRecorder = DemoRecorder(self.drives[0].state, KEYS)

    def advance(self, held: Collection[str]) -> bool:
        """One frame of every car that has not finished."""
        self._held = held
        running = [drive for drive in self.drives if not drive.done]
        for drive in running:
            drive.advance()
        own = self.drives[0]
        if own in running:
            by_hand = own.hand is not None
            keys, axes = (self._hands.keys, self._hands.axes) if by_hand else (frozenset[str](), (0.0, 0.0, 0.0))
            self._recorder.add(own.state, own.controls, own.reward, by_hand, keys, axes)
        for drive, trail in zip(self.drives, self._trails, strict=True):
            if drive in running and drive.frames % TRAIL_EVERY == 1:
                trail.append(drive.state.pos[0].double().numpy())
        return bool(running)

    def press(self, key: str) -> str | None:
        """Camera, sight, hand and ghosts."""
        if key == "c":
            self._camera = (self._camera + 1) % len(CAMERAS)
            return f"camera: {('follow', 'north up', 'whole track')[self._camera]}"
        if key == "tab" and len(self.drives) > 1:
            self._followed = (self._followed + 1) % len(self.drives)
            return f"following {_name(self.drives[self._followed])}"
        if key == "v":
            self._sees = not self._sees
            blind = self._sees and self._minds[self._followed] is None
            return f"{_name(self.drives[self._followed])} has no network" if blind else ""
        if key == "t":
            return self._hand_over()
        return None

    def draw(self, frame: Frame) -> Surface:
        """The cars on their track."""
        drive = self.drives[self._followed]
        mind = self._minds[self._followed]
        own = self.drives[0]
        parts = [titles_of(own.driver, own.env_name)[0]]
        if own.hand is not None and not self.is_human:
            parts.append("you drive")
        trail = self._trails[self._followed]
        shot = Shot(
            cars=tuple(Cast(_name(each), each.state, each.score) for each in self.drives),
            followed=self._followed,
            camera=CAMERAS[self._camera],
            caption=" · ".join([*parts, *frame.notes]),
            mind=None if mind is None or drive.frames == 0 else self._think(drive, mind),
            seen=self._seen(drive) if self._sees and mind is not None else None,
            trail=np.array(trail) if len(trail) > 1 else None,
            banner=frame.banner,
            help=frame.help,
            keys=frame.keys,
        )
        return self._viewer.shoot(drive.tracks, shot)

    def results(self) -> list[tuple[str, float, int]]:
        """(who, score, frames) of every driver."""
        return [(_name(drive), drive.score, drive.frames) for drive in self.drives]

    def finish(self, cut: bool) -> list[Path]:
        """Keeps the episode, if any of it was driven by hand."""
        from drivetrain.agents.demos import save_demo

        if not self._recorder.has_hand:
            return []
        own = self.drives[0]
        player = self._player if self.is_human else f"{self._player} and {_name(own)}"
        cut = cut and not own.done
        # the original has a rule of its own
        rule = own.driver.sim_config.lap_rule if own.env_name == RACING else "all"
        demo = self._recorder.finish(own.env_name, self._seed, player, own.score, cut, rule)
        return [save_demo(demo, self._out, time.strftime("%Y%m%d-%H%M%S"))]

    def close(self) -> None:
        """Let go of the environments."""
        for drive in self.drives:
            drive.close()

    def _take_over(self) -> None:
        self.drives[0].hand = lambda speed: self._hands.drive(self._held, speed)

    def _hand_over(self) -> str:
        own = self.drives[0]
        if self.is_human:
            return "you drive already"
        if own.hand is None:
            self._hands.let_go()
            self._take_over()
            return "you drive: arrows or WASD"
        own.hand = None
        return f"{_name(own)} drives"

    def _think(self, drive: Drive, mind: Any) -> Mind:
        decision = (self._followed, (drive.frames - 1) // drive.driver.sim_config.frame_skip)
        if self._thought is None or self._thought[0] != decision:
            self._thought = decision, mind(drive.seen)
        return self._thought[1]

    def _seen(self, drive: Drive) -> Seen:
        task = drive.driver.sim_config
        if task.obs == "pixels":
            return seen_pictures(drive.seen[0], task) if drive.frames else Seen()
        return seen_in_world(drive.tracks, drive.state, task)

    def _reader(self, driver: Driver) -> Any:
        """From an observation to a Mind; None of a driver without a network, or one that rests on more than that."""
        if driver.key in (HUMAN, *SCRIPTED) or driver.record.get("core", "none") != "none":
            return None
        from drivetrain.minds import Reader

        return Reader(driver)


def _keys(is_human: bool, has_ghosts: bool) -> tuple[Key, ...]:
    """Of a race."""
    hand = (
        Key("arrows", "drive", "or WASD, or a gamepad: drive")
        if is_human
        else Key("t", "take over", "take over by hand (arrows, WASD, gamepad), and give back")
    )
    camera = Key("c", "camera", "camera: follow, north up, whole track")
    ghosts = (Key("tab", "next car", "follow the next car"),) if has_ghosts else ()
    return Key("n", "next track", "next track"), hand, camera, Key("v", "view", "what the network sees"), *ghosts


def _name(drive: Drive) -> str:
    """Who drives, in short."""
    return titles_of(drive.driver, drive.env_name)[-1]


class GymStage:
    """Any Gymnasium environment that draws itself, fitted into a window.

    Args:
        scene: the environment and its player.
        size: px, (width, height) of the window.
    """

    keys: tuple[Key, ...] = (Key("n", "next", "next episode"),)

    def __init__(self, scene: GymScene, size: tuple[int, int]) -> None:
        self._scene, self._pygame = scene, load_pygame()
        self._surface = self._pygame.Surface(size, 0, 32)
        self.fps = float(scene.fps)

    def begin(self, seed: int) -> None:
        """To the start of the episode of a seed."""
        self._play = self._scene.play(seed)
        self._scene.score, self._scene.frames = 0.0, 0  # it begins with the first step
        self._picture: np.ndarray | None = None

    def advance(self, held: Collection[str]) -> bool:
        """One step."""
        del held
        going = next(self._play, "ended") is None
        if going:
            self._picture = self._scene.picture()
        return going

    def press(self, key: str) -> str | None:
        """No key has a meaning of its own here."""
        del key
        return None

    def draw(self, frame: Frame) -> Surface:
        """The environment's picture as large as it goes, between the caption and the line of help."""
        surface, pygame = self._surface, self._pygame
        surface.fill((12, 13, 16))
        parts = (self._scene.titles[0], f"score {self._scene.score:.1f}", f"step {self._scene.frames}", *frame.notes)
        top = draw_caption(pygame, surface, " · ".join(parts)) + 4
        width, room = surface.get_width(), surface.get_height() - top - help_height(surface.get_size()) - 4
        if self._picture is not None:
            high, wide, _ = self._picture.shape
            image = pygame.image.frombuffer(np.ascontiguousarray(self._picture), (wide, high), "RGB")
            scale = min(width / wide, room / high)
            scale = int(scale) if scale >= 2 else scale  # large pixels stay squares
            fitted = (max(1, round(scale * wide)), max(1, round(scale * high)))
            grow = pygame.transform.scale if scale >= 2 or scale == 1 else pygame.transform.smoothscale
            surface.blit(grow(image, fitted), ((width - fitted[0]) // 2, top + (room - fitted[1]) // 2))
        draw_help(pygame, surface, frame.help)
        if frame.banner and not frame.keys:
            draw_banner(pygame, surface, frame.banner, top + room)
        if frame.keys:
            draw_keys(pygame, surface, frame.keys)
        return surface

    def results(self) -> list[tuple[str, float, int]]:
        """(who, score, frames)."""
        return [(self._scene.titles[-1], self._scene.score, self._scene.frames)]

    def finish(self, cut: bool) -> list[Path]:
        """Nothing is kept of it."""
        del cut
        return []

    def close(self) -> None:
        """Let go of the environment."""
        self._scene.close()

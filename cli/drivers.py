"""WHO drives: a run, the scripted expert, or random choices, together with the task it drives in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.agents.config import ORIGINAL, TASK, task_in
from drivetrain.envs.errors import UserError
from drivetrain.pretrain import SUPERVISED
from drivetrain.rundir import find_run, read_run_config, run_name
from drivetrain.scenes import RACING
from drivetrain.tasks import check_recorded

if TYPE_CHECKING:
    from drivetrain.agents.evaluate import Actor
    from drivetrain.envs.sim import SimConfig

__all__ = ["HUMAN", "SCRIPTED", "Driver", "actor_of", "env_of", "find_driver", "trained_driver", "with_env_args"]

SCRIPTED = ("expert", "random")
HUMAN = "human"
"""key of a Driver who has no mind here: somebody must set `Drive.hand`"""


@dataclass(frozen=True)
class Driver:
    """Somebody who can drive, and the task as this driver knows it."""

    name: str  # as on the command line
    key: str  # what `actor_of` understands: expert, random, or the folder of a checkpoint
    env: str  # where a run was trained; racing for scripted drivers
    sim_config: SimConfig  # the task, where a car is driven
    step: int | None = None  # steps of training behind it
    record: Mapping[str, Any] = field(default_factory=dict)  # config.json of a run

    def actor(self, device: str = "cpu") -> Actor:
        """The driver itself; loads the weights of a run."""
        return actor_of(self.key, self.sim_config.actions, device)

    @property
    def title(self) -> str:
        """For people: the name, and how long a run was trained."""
        return self.name if self.step is None else f"{self.name}, step {self.step:,}"


def find_driver(
    who: str, checkpoint: str = "best", actions: str | None = None, frame_skip: int | None = None
) -> Driver:
    """Look up WHO.

    Args:
        who: a run (name or path), "expert" or "random".
        checkpoint: of a run: "best" by validation score, "last", or a step.
        actions: action set of a scripted driver; None = continuous. A run has its own.
        frame_skip: frames an action of a scripted driver is held for; None = 1. A run has its own.

    Raises:
        UserError: no such run (2), no valid checkpoint (3), or settings that contradict the run (2).
    """
    from drivetrain.envs.task import sim_config

    if who in SCRIPTED:
        task: dict[str, Any] = TASK | {"actions": actions or "continuous", "frame_skip": frame_skip or 1}
        if who == "expert" and task["actions"] not in ("continuous", "pedals"):
            raise UserError("the expert cannot drive with these actions", got=actions, allowed=("continuous", "pedals"))
        return Driver(who, who, RACING, sim_config(**task))
    path = find_run(who)
    config = read_run_config(path)
    if config.get("algo") in SUPERVISED:
        what = "nothing drives in a run that learned from examples"
        raise UserError(what, got=f"{who}, {config['algo']}", fix=f"look at its pictures: {_pictures(path)}")
    check_recorded(str(config.get("env", RACING)))
    task = _task_of(config)
    for name, asked in (("actions", actions), ("frame_skip", frame_skip)):
        if asked is not None and asked != task[name]:
            fix = f"leave --{name.replace('_', '-')} out"
            raise UserError(f"the run {who} was trained with {name} {task[name]}", got=asked, fix=fix)
    from drivetrain.agents.checkpoint import choose_checkpoint

    chosen = choose_checkpoint(path / "checkpoints", checkpoint)
    return trained_driver(run_name(path), chosen.path, config, chosen.step)


def _pictures(run: Path) -> str:
    return ", ".join(str(path) for path in sorted(run.glob("*.png"))) or f"{run} has none"


def trained_driver(name: str, checkpoint: Path, config: Mapping[str, Any], step: int) -> Driver:
    """A driver out of a checkpoint and the config.json of its run."""
    from drivetrain.envs.task import sim_config

    env = str(config.get("env", RACING))
    return Driver(name, str(checkpoint), env, sim_config(**_task_of(config)), step, config)


def _task_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The task of a run where a car is driven; that of others is in their record."""
    return task_in(config) if config.get("env", RACING) in (RACING, ORIGINAL) else dict(TASK)


def env_of(drivers: Sequence[Driver], asked: str | None) -> str:
    """Where they drive together: where it is asked for, else where the first run among them was trained."""
    return asked or next((driver.env for driver in drivers if driver.step is not None), drivers[0].env)


def with_env_args(drivers: Sequence[Driver], env: str, env_args: Mapping[str, Any]) -> list[Driver]:
    """The drivers in an environment that is made with these arguments.

    Raises:
        UserError: a car is driven there, or a run has arguments of its own.
    """
    if not env_args:
        return list(drivers)
    if env in (RACING, ORIGINAL):
        raise UserError(f"--env-args is of no use with {env}", fix="leave it out")
    trained = next((driver.name for driver in drivers if driver.key not in SCRIPTED), None)
    if trained is not None:
        raise UserError(f"the run {trained} has env_args of its own", fix="leave --env-args out")
    return [replace(driver, env=env, record={"env_args": dict(env_args)}) for driver in drivers]


def actor_of(key: str, actions: str, device: str = "cpu") -> Actor:
    """The actor behind ``Driver.key``; a function of plain text, so that worker processes can call it."""
    if key in SCRIPTED:
        from drivetrain.agents.evaluate import scripted_actor

        return scripted_actor(key, actions)
    from drivetrain.learner import load_actor

    return load_actor(Path(key), device)

"""From flat options to something that learns and is validated, and from a checkpoint to something that drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from drivetrain.agents import build
from drivetrain.agents.carry import carry_encoder, carry_over
from drivetrain.agents.checkpoint import choose_checkpoint, load_model
from drivetrain.agents.evaluate import Actor, Scores
from drivetrain.agents.players import racing_actor
from drivetrain.agents.worlds import action_counts, play, spaces_of
from drivetrain.device import describe_device, keep_freed_memory
from drivetrain.envs.errors import UserError
from drivetrain.memory import check_memory, free_memory
from drivetrain.policies.summary import describe_policy
from drivetrain.rundir import find_run, read_run_config

if TYPE_CHECKING:
    from drivetrain.agents.build import AnyLearner, AnyPolicy

__all__ = ["Learner", "begin_from", "build_learner", "load_actor"]


@dataclass(frozen=True)
class Learner:
    """What a session needs."""

    agent: AnyLearner
    validate: Callable[[int, int], Scores]  # (first seed, episodes), without exploration
    device_words: str
    notes: tuple[str, ...] = ()  # for the user, before training begins


def build_learner(algo: str, env: str, options: BaseModel) -> Learner:
    """A fresh learner from resolved options (device and threads set).

    Raises:
        UserError: it would not fit in memory (8).
    """
    flat = options.model_dump()
    device = flat["device"]
    observations, actions = spaces_of(env, flat)
    _check_memory(algo, flat, observations, device)
    keep_freed_memory()
    learner = build.build_learner(algo, env, flat, flat["seed"], device, flat["steps"])

    def validate(first: int, episodes: int) -> Scores:
        counts = action_counts(env, flat, actions, device)
        return play(env, flat, learner.policy, range(first, first + episodes), device, counts)

    return Learner(learner, validate, describe_device(device), (describe_policy(learner.policy), *_notes(algo, flat)))


def _check_memory(algo: str, flat: dict[str, Any], observations: Any, device: str) -> None:
    if algo == "ppo":
        check_memory(flat, observations, device)
        return
    from drivetrain.agents.dqn_config import DQNConfig
    from drivetrain.agents.replay import check_replay

    pictures = len(observations.shape) == 3
    channels = observations.shape[-1] // flat["frame_stack"] if pictures else None
    config = build.make_config(algo, flat)
    assert isinstance(config, DQNConfig)
    check_replay(observations, channels, config, free_memory(device))


def _notes(algo: str, flat: dict[str, Any]) -> tuple[str, ...]:
    if algo != "dqn" or flat["backend"] != "sb3":
        return ()
    from drivetrain.agents.dqn_config import DQNConfig
    from drivetrain.agents.sb3_settings import dqn_lacks

    config = build.make_config(algo, flat)
    assert isinstance(config, DQNConfig)
    lacks = dqn_lacks(config)
    return (f"note: Stable-Baselines3's DQN does without {', '.join(lacks)}",) if lacks else ()


def begin_from(
    learner: AnyLearner,
    who: str,
    trust: bool = False,
    differing: Callable[[Mapping[str, Any]], str] | None = None,
    encoder_alone: bool = False,
) -> tuple[str, ...]:
    """Take over the weights of another run, or of a zip of Stable-Baselines3. Returns what the user should know.

    With its encoder alone there is no policy to be held on to.

    Args:
        learner: begins from there.
        who: the run, or the zip.
        trust: open a zip as Stable-Baselines3 does.
        differing: from config.json of the run to the options that make the learner's network another one, in words.
        encoder_alone: of a run, take the encoder and its normaliser.

    Raises:
        UserError: no such run (2), no valid checkpoint (3), or a network of another shape (2).
    """
    if who.endswith(".zip"):
        from drivetrain.agents.sb3_import import begin_from_sb3

        notes, cloned = begin_from_sb3(learner.policy, learner.cfg, Path(who), trust), False
    else:
        run = find_run(who)
        record = read_run_config(run)
        try:
            weights = load_model(choose_checkpoint(run / "checkpoints").path)
            if encoder_alone:
                carry_encoder(learner.policy, weights, who)
                if hasattr(learner, "begin_with_encoder"):  # PPO's own
                    learner.begin_with_encoder()
                return ()
            notes = carry_over(learner.policy, weights, who)
        except UserError as error:
            words = differing(record) if differing is not None else ""
            if words:
                fix = f"leave out the options that differ from that run's: {words}"
                raise UserError(error.what, got=error.got, allowed=error.allowed, fix=fix) from None
            raise
        cloned = record.get("algo") == "imitate"
    if hasattr(learner, "begin_from_here"):  # Stable-Baselines3's algorithms know no such beginning
        learner.begin_from_here(cloned)
    return notes


def load_actor(checkpoint: Path, device: str = "cpu") -> Actor:
    """The driver in a checkpoint of a run folder, without exploration.

    Raises:
        UserError: the checkpoint is damaged (3), or does not fit config.json (2).
    """
    return racing_actor(load_policy_of(checkpoint, device))


def load_policy_of(checkpoint: Path, device: str = "cpu") -> AnyPolicy:
    """The network in a checkpoint of a run folder.

    Raises:
        UserError: the checkpoint is damaged (3), or does not fit config.json (2).
    """
    return build.load_policy(read_run_config(checkpoint.parent.parent), checkpoint).to(device)

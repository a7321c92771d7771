"""DAgger (Ross et al. 2011, algorithm 3.1) in the batched simulator: the student drives, the teacher says what to do.

Reading order: `update_once` is one round. All cars drive on for some decisions, each by turns in the hands of teacher
and student; every observation is kept with the teacher's action; then the student learns from samples of all that was
kept. Shapes: T decisions, B cars, N samples, A numbers of an answer, S of a situation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..envs.errors import UserError
from ..envs.expert import SEEABLE, SITUATION, Line, build_lines, situation
from ..envs.sim import Outcome, Sim, SimConfig
from ..policies.cores import Memory
from ..policies.encoders import DENSE, linear
from ..policies.policy import Policy
from .adam import Adam
from .answers import answers_of
from .build import build
from .carry import carry_over
from .checkpoint import load_model
from .config import RACING
from .imitation_config import EXPERT, ImitateConfig
from .lessons import Lessons
from .rollout import HISTORY
from .supervised import cosine, mirrored, update_average
from .teachers import Teacher, expert_teacher, policy_teacher
from .worlds import make_env, spaces_of

if TYPE_CHECKING:
    from .build import AnyPolicy

ADAM_EPS = 1e-5
LAP_FRAMES = 700
"""about a lap, over which the first starts are spread"""
LOST_OFFSET, LOST_HEADING = 15.0, 2.0
"""u and rad off the line, beyond which a lap has nothing left to teach"""
OFFSET, HEADING_ERROR = SITUATION.index("offset"), SITUATION.index("heading_error")
TURNED = ("side_speed", "yaw_rate", "offset", "heading_error")
"""numbers of a situation that a mirror gives the other sign"""


class Bursts:
    """Noise on the actions of B cars, now and then, for some decisions: it leads where no good driver comes.

    Args:
        num_envs: B.
        size: [A], the largest noise.
        cfg: how often and how long.
    """

    def __init__(self, num_envs: int, size: Tensor, cfg: ImitateConfig) -> None:
        self.size, self.cfg = size, cfg
        self.left = torch.zeros(num_envs, dtype=torch.int64, device=size.device)  # decisions that a burst still lasts
        self.noise = torch.zeros(num_envs, len(size), device=size.device)

    def draw(self, generator: torch.Generator) -> Tensor:
        """[B, A] for the next decision."""
        cfg, lanes, device = self.cfg, len(self.left), self.left.device
        begins = torch.rand(lanes, generator=generator, device=device) < cfg.burst_prob
        begins &= self.left <= 1
        length = torch.randint(1, cfg.burst_steps + 1, (lanes,), generator=generator, device=device)
        noise = (2 * torch.rand(self.noise.shape, generator=generator, device=device) - 1) * self.size
        self.left = torch.where(begins, length, (self.left - 1).clamp(min=0))
        self.noise = torch.where(begins[:, None], noise, self.noise)
        return torch.where(self.left[:, None] > 0, self.noise, 0.0)


class ImitationLearner:
    """Everything that changes while a student learns from a teacher, and the round that changes it.

    `student` is trained; `policy`, the running mean of its weights, drives and is kept.

    Args:
        env: where they drive; it is reset here.
        policy: what to begin with.
        teacher: who knows what to do.
        line: plans for the same tracks, by which a situation is told.
        cfg: settings.
        generator: the learner's own noise, on the environment's device.
        total_steps: decisions of the whole training, all cars together.
    """

    def __init__(
        self,
        env: Sim,
        policy: Policy,
        teacher: Teacher,
        line: Line,
        cfg: ImitateConfig,
        generator: torch.Generator,
        total_steps: int,
    ) -> None:
        self.env, self.teacher, self.line, self.cfg, self.generator = env, teacher, line, cfg, generator
        self.policy = policy.to(env.device)
        self.answers = answers_of(env.config.actions, policy.head, cfg, env.device)
        self.student = copy.deepcopy(self.policy)
        self.teller = teller(self.student, generator).to(env.device)  # says the situation; a help in training alone
        self.optimizer = Adam([*self.student.parameters(), *self.teller.parameters()], ADAM_EPS)
        self.rounds = -(-total_steps // (cfg.num_envs * cfg.num_steps))
        self.steps, self.frames, self.updates, self.rate = 0, 0, 0, 0.0
        self.episodes, self.table = 0, torch.zeros(0, 3)  # of the last HISTORY: return, frames, lap
        self.turned = torch.tensor([-1.0 if name in TURNED else 1.0 for name in SITUATION], device=env.device)
        self.bursts = Bursts(env.num_envs, self.answers.noise, cfg)
        self.taught = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)  # cars in the teacher's hands
        self.obs = self._spread()
        self.memory = self.policy.core.start(env.num_envs, env.device)
        sizes = {"action": len(self.answers.noise), "situation": len(SITUATION)}
        self.lessons = Lessons(self.obs, self.rounds * cfg.num_steps, env.channels, sizes)

    def update_once(self) -> dict[str, float]:
        """One round: decisions of all cars, then updates on what was kept so far. Returns its metrics."""
        share = self.updates / (self.rounds * self.cfg.num_updates)
        teacher_share = max(0.0, 1.0 - share / self.cfg.teacher_until)
        self._drive(teacher_share)
        history = [self._learn() for _ in range(self.cfg.num_updates)]
        means = torch.stack([torch.stack(list(parts.values())) for parts in history]).mean(0).tolist()
        metrics = dict(zip(history[0], means, strict=True)) | self._statistics()
        return metrics | {"diag/learning_rate": self.rate, "diag/teacher_share": teacher_share}

    @torch.no_grad()
    def _spread(self) -> Tensor:
        """The teacher drives until the cars are anywhere on their laps. Returns obs [B, …]."""
        obs, lap = self.env.reset(), LAP_FRAMES // self.env.config.frame_skip
        start = torch.randint(lap, (self.env.num_envs,), generator=self.generator, device=self.env.device)
        for step in range(lap):
            advice = self._advice()
            self.env.step(self.answers.action(advice, torch.zeros_like(advice)))
            obs = self.env.restart(start == step)
        return obs.clone()

    def _advice(self) -> Tensor:
        """[B, A], what the teacher would do."""
        return self.answers.of(self.teacher(self.env.tracks, self.env.state))

    @torch.no_grad()
    def _drive(self, teacher_share: float) -> None:
        """num_steps decisions of every car, kept with the teacher's answers."""
        env, obs = self.env, self.obs
        seen = [obs.new_empty(0)]
        for _ in range(self.cfg.num_steps):
            advice = self._advice()
            self.lessons.add(obs, {"action": advice, "situation": situation(self.line, env.state)})
            self._change_hands(teacher_share)
            action, kept = self.policy.act_with(obs, self.memory)
            answer = torch.where(self.taught[:, None], advice, self.answers.of_action(action))
            if env.channels is None:
                seen.append(obs.clone())
            outcome = env.step(self.answers.action(answer, self.bursts.draw(self.generator)))
            self._count(outcome)
            lost = self._lost()
            done = outcome.done | lost
            obs = env.restart(lost)
            self.lessons.after(done)
            self.memory = Memory(kept, done)
        self.obs = obs.clone()
        if env.channels is None:
            self.student.obs_norm.update(torch.cat(seen[1:]))

    def _change_hands(self, teacher_share: float) -> None:
        """Draws anew, for a few cars, who drives them."""
        lanes, device = self.env.num_envs, self.env.device
        changes = torch.rand(lanes, generator=self.generator, device=device) < self.cfg.switch_prob
        taught = torch.rand(lanes, generator=self.generator, device=device) < teacher_share
        self.taught = torch.where(changes, taught, self.taught)

    def _lost(self) -> Tensor:
        """[B] bool: cars too far from the road."""
        stand = situation(self.line, self.env.state)
        return (stand[:, OFFSET].abs() * 4.0 > LOST_OFFSET) | (stand[:, HEADING_ERROR].abs() > LOST_HEADING)

    def _learn(self) -> dict[str, Tensor]:
        """One step of the optimiser, on samples of all lessons."""
        cfg = self.cfg
        features, action, stand = self._remembered() if self.student.remembers else self._seen()
        action_loss = self.answers.loss(self.student.head, features, action)
        situation_loss = (self.teller(features) - stand).square().mean()
        loss = action_loss + cfg.aux_coef * situation_loss
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.optimizer.parameters, cfg.max_grad_norm)
        total = self.rounds * cfg.num_updates
        self.rate = cosine(cfg.learning_rate, cfg.learning_rate_end, self.updates, total, cfg.warmup)
        self.optimizer.step(self.rate)
        update_average(self.policy, self.student, self.updates, cfg.weight_average)
        self.updates += 1
        return {
            "loss/total": loss.detach(),
            "loss/imitation": action_loss.detach(),
            "loss/situation": situation_loss.detach(),
        }

    def _seen(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features [N, F] of samples, with the teacher's answers [N, A] and situations [N, S]."""
        obs, answer = self.lessons.sample(self.cfg.batch_size, self.generator)
        action, stand = answer["action"], answer["situation"]
        half = slice(self.cfg.batch_size // 2)
        self._mirror(obs[half], action[half], stand[half])
        return self.student.actor(self.student.obs_norm(obs)), action, stand

    def _remembered(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same of windows, from memory that is empty where they begin and fills in their first quarter."""
        length, count = self.cfg.window, self.cfg.batch_size // self.cfg.window
        obs, answer, first = self.lessons.windows(count, length, self.generator)
        action, stand = answer["action"], answer["situation"]
        half = slice(count // 2)
        self._mirror(obs[:, half], action[:, half], stand[:, half])
        kept = self.student.core.start(count, obs.device).kept
        features, _ = self.student.over_time(self.student.obs_norm(obs.flatten(0, 1)), kept, first)
        told = slice(length // 4 * count, None)
        return features[told], action.flatten(0, 1)[told], stand.flatten(0, 1)[told]

    def _mirror(self, obs: Tensor, action: Tensor, stand: Tensor) -> None:
        """Turns samples over in place, if they are pictures."""
        if self.cfg.mirror and self.env.channels is not None:
            obs.copy_(mirrored(obs))
            action.copy_(self.answers.mirrored(action))
            stand *= self.turned

    def _count(self, outcome: Outcome) -> None:
        """Takes up a decision of all cars and the episodes that ended with it."""
        self.steps += self.env.num_envs
        self.frames += int(outcome.frames.sum())
        columns = (outcome.episode_return, outcome.episode_frames, outcome.lap_finished)
        ended = torch.stack([column[outcome.done].float() for column in columns], 1).cpu()
        self.episodes += len(ended)
        self.table = torch.cat((self.table, ended))[-HISTORY:]

    def _statistics(self) -> dict[str, float]:
        found = {"train/episodes": float(self.episodes)}
        if len(self.table):
            found |= dict(zip(("train/return", "train/frames", "train/laps"), self.table.mean(0).tolist(), strict=True))
        return found

    def begin_from(self, checkpoint: Path) -> None:
        """Take over the weights of a checkpoint folder.

        Raises:
            UserError: damaged (3), or weights of another shape (2).
        """
        carry_over(self.policy, load_model(checkpoint), checkpoint.parent.parent.name)
        self.student.load_state_dict(self.policy.state_dict())

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Rounds until at least total_steps decisions were taken; yields the metrics of each."""
        while self.steps < total_steps:
            yield self.update_once()

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Where the training stands, for the record: the lessons are too large to be kept, so it cannot go on."""
        return dict(self.teller.state_dict()), {"steps": self.steps, "frames": self.frames, "updates": self.updates}


def build_imitation(
    cfg: ImitateConfig,
    settings: Mapping[str, Any],
    seed: int,
    device: str,
    total_steps: int,
    trained: tuple[AnyPolicy, SimConfig] | None = None,
) -> ImitationLearner:
    """A student and its teacher on training tracks of their own.

    Args:
        cfg: of the learner.
        settings: flat: the task.
        seed: of weights, tracks and exploration.
        device: where to compute.
        total_steps: decisions of the whole training, all cars together.
        trained: a trained teacher and its task; None = the scripted driver with the settings in cfg.

    Raises:
        UserError: settings that do not go together, or lessons that would not fit in memory (8).
    """
    spaces = spaces_of(RACING, settings)
    if (len(spaces[0].shape or ()) == 3) == (cfg.encoder in DENSE):
        fix = "take --encoder cnn or resnet for pictures, mlp for numbers"
        raise UserError(f"the encoder {cfg.encoder} does not read these observations", got=spaces[0].shape, fix=fix)
    env = make_env(RACING, {**settings, **cfg.model_dump()}, cfg.num_envs, seed, device)
    assert isinstance(env, Sim), "racing is the simulator"
    generator = torch.Generator(device).manual_seed(seed)
    policy = build("imitate", cfg, spaces, torch.Generator().manual_seed(seed ^ 0x5EED))
    assert isinstance(policy, Policy), "students have such a policy"
    expert = replace(SEEABLE, **{name: getattr(cfg, name) for name in EXPERT})
    line = build_lines(env.tracks, expert)
    teacher = expert_teacher(line) if trained is None else policy_teacher(*trained)
    return ImitationLearner(env, policy, teacher, line, cfg, generator, total_steps)


def teller(policy: Policy, generator: torch.Generator) -> nn.Linear:
    """A layer that tells a situation from a policy's features."""
    layer = linear(policy.core.out_features, len(SITUATION))
    weights = torch.Generator().manual_seed(generator.initial_seed() ^ 0x7E11)
    nn.init.orthogonal_(layer.weight, generator=weights)
    nn.init.zeros_(layer.bias)
    return layer

"""DAgger: what is kept, who drives, what a mirror does, and that a student learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from drivetrain.agents.build import build, load_policy
from drivetrain.agents.checkpoint import save_checkpoint
from drivetrain.agents.imitation import TURNED, Bursts, ImitationLearner, build_imitation
from drivetrain.agents.imitation_config import EXPERT, ImitateConfig
from drivetrain.agents.lessons import Lessons
from drivetrain.agents.teachers import check_actions, expert_teacher, from_controls, nearest, policy_teacher
from drivetrain.agents.worlds import spaces_of
from drivetrain.envs.actions import to_controls
from drivetrain.envs.errors import UserError
from drivetrain.envs.expert import SEEABLE, SITUATION, build_lines, situation
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.state import CarState
from drivetrain.envs.track import Tracks, pool
from drivetrain.policies.policy import Policy

FIRST = 1_000_000_000
TASK: dict[str, Any] = {"obs": "state", "actions": "pedals", "frame_skip": 3}
PIXELS = TASK | {"obs": "pixels", "picture": "grey", "picture_size": 64, "frame_stack": 2}
SMALL: dict[str, Any] = {
    "num_envs": 4,
    "num_steps": 8,
    "num_updates": 3,
    "batch_size": 32,
    "num_tracks": 3,
    "hidden": (32,),
    "shared_trunk": True,
}
SEES = {"encoder": "cnn", "channels": (4, 4, 4)}


def learner(task: dict[str, Any] | None = None, steps: int = 64, seed: int = 0, **changes: Any) -> ImitationLearner:
    cfg = ImitateConfig(**(SMALL | changes))
    return build_imitation(cfg, task or TASK, seed, "cpu", steps)


def test_the_settings_of_the_teacher_are_those_that_can_be_seen_through() -> None:
    cfg = ImitateConfig()
    assert {name: getattr(cfg, name) for name in EXPERT} == {name: getattr(SEEABLE, name) for name in EXPERT}
    other = {field for field in vars(SEEABLE) if getattr(SEEABLE, field) != getattr(type(SEEABLE)(), field)}
    assert other <= set(EXPERT)


@pytest.mark.golden
def test_a_sample_is_a_stack_as_it_was_seen_with_its_own_answer() -> None:
    # pictures 1x1 of one channel, two lanes, stacks of two; lane 1 begins an episode at the third decision
    seen = [[[10, 11], [20, 21]], [[11, 12], [21, 22]], [[12, 13], [30, 30]]]
    stacks = [torch.tensor(step, dtype=torch.uint8).view(2, 1, 1, 2) for step in seen]
    lessons = Lessons(stacks[0], 5, 1, {"action": 1})
    for k, obs in enumerate(stacks):
        lessons.add(obs, {"action": torch.tensor([[k + 0.0], [k + 0.5]])})
        lessons.after(torch.tensor([False, k == 1]))
    assert len(lessons) == 6
    obs, answers = lessons.sample(200, torch.Generator().manual_seed(0))
    found = {
        (*pair, answer) for pair, answer in zip(obs.view(-1, 2).tolist(), answers["action"][:, 0].tolist(), strict=True)
    }
    assert found == {(*seen[k][lane], k + lane / 2) for k in range(3) for lane in range(2)}


@pytest.mark.golden
def test_a_window_is_one_car_some_decisions_long_and_knows_where_episodes_begin() -> None:
    # what car b sees at step t is 10 b + t; car 1 begins an episode at step 2, both began one at step 0
    lessons = Lessons(torch.zeros(2, 1), 6, None, {"action": 1})
    for t in range(4):
        obs = torch.tensor([[0.0 + t], [10.0 + t]])
        lessons.add(obs, {"action": -obs})
        lessons.after(torch.tensor([False, t == 1]))
    obs, answers, first = lessons.windows(300, 3, torch.Generator().manual_seed(0))
    assert obs.shape == (3, 300, 1) and first.shape == (3, 300)
    assert torch.equal(answers["action"], -obs)
    begins = {0: (True, False, False), 1: (False,) * 3, 10: (True, False, True), 11: (False, True, False)}
    found = {(*obs[:, k, 0].int().tolist(), *first[:, k].tolist()) for k in range(300)}
    assert found == {(start, start + 1, start + 2, *marks) for start, marks in begins.items()}


@pytest.mark.parametrize("kind", ["gru", "lstm", "transformer"])
@pytest.mark.parametrize("task", [TASK | {"hide_motion": True}, PIXELS])
def test_a_student_with_memory_drives_and_learns_from_windows(kind: str, task: dict[str, Any]) -> None:
    sees = SEES if task["obs"] == "pixels" else {}
    small = learner(task, core=kind, core_size=8, window=8, batch_size=32, **sees)
    before = small.student.core.state_dict()
    before = {name: weight.clone() for name, weight in before.items()}
    for _ in small.iterate(64):
        pass
    assert any(not torch.equal(weight, before[name]) for name, weight in small.student.core.state_dict().items())
    assert small.memory.kept.abs().sum() > 0


@pytest.mark.oracle
def test_of_a_window_memory_first_fills_and_then_says_what_it_says_on_the_road() -> None:
    small = learner(TASK | {"hide_motion": True}, core="gru", core_size=8, window=8, batch_size=16, burst_prob=0.0)
    small._drive(1.0)
    rows = small.lessons
    rows.first[:9] = False
    features, action, _ = small._remembered()
    assert len(features) == len(action) == 2 * 6  # two windows, of which the first quarter only fills
    # there is one place for a window of 8 in 8 steps: its cars are those whose actions came back
    for k in range(2):
        (lane,) = [b for b in range(4) if torch.equal(rows.answers["action"][2:8, b], action[k::2])]
        memory = small.student.core.start(1, "cpu").kept
        for t in range(8):
            normed = small.student.obs_norm(rows.numbers[t, lane : lane + 1])
            feature, memory = small.student.over_time(normed, memory, torch.zeros(1, 1, dtype=torch.bool))
            if t >= 2:
                torch.testing.assert_close(features[2 * (t - 2) + k], feature[0])


def test_a_student_forgets_where_an_episode_ends() -> None:
    small = learner(TASK | {"hide_motion": True}, core="gru", core_size=8, window=8, patience=3)
    small._drive(0.0)
    assert torch.equal(small.memory.first, small.lessons.first[small.lessons.step])
    assert small.lessons.first[1:9].any(), "somebody was set back"


def test_every_observation_is_kept_with_the_teachers_action_in_that_very_state() -> None:
    small = learner(PIXELS, **SEES)
    asked: list[Tensor] = []
    teacher = small.teacher

    def listened(tracks: Tracks, state: CarState) -> Tensor:
        asked.append(from_controls("pedals", teacher(tracks, state)).clone())
        return teacher(tracks, state)

    small.teacher = listened
    small.update_once()
    assert torch.equal(small.lessons.answers["action"][:8], torch.stack(asked))
    assert small.lessons.answers["action"][8:].eq(0).all()
    assert (small.steps, small.frames, small.updates) == (32, 96, 3)


@pytest.mark.oracle
def test_in_the_teachers_hands_the_cars_go_where_the_teacher_alone_would_take_them() -> None:
    small = learner(burst_prob=0.0)
    alone = learner(burst_prob=0.0)
    assert torch.equal(small.env.state.pos, alone.env.state.pos)
    small._drive(1.0)
    for _ in range(8):
        alone.env.step(from_controls("pedals", alone.teacher(alone.env.tracks, alone.env.state)))
    assert torch.equal(small.env.state.pos, alone.env.state.pos)


def test_with_the_training_the_cars_pass_into_the_students_hands() -> None:
    small = learner(steps=32 * 8, switch_prob=1.0, teacher_until=0.5)
    shares = [metrics["diag/teacher_share"] for metrics in small.iterate(32 * 8)]
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.25, 0, 0, 0, 0])
    assert not small.taught.any()


@pytest.mark.golden
def test_bursts_keep_to_their_size_and_length_and_end() -> None:
    size, generator = torch.tensor([0.25, 0.5]), torch.Generator().manual_seed(0)
    always = Bursts(1000, size, ImitateConfig(burst_prob=1.0, burst_steps=2))
    noise = torch.stack([always.draw(generator) for _ in range(6)])
    assert (noise.abs() <= size).all() and noise.ne(0).all()
    # half of the bursts last one decision, half two: two thirds of all decisions continue or begin one of two
    assert 0.2 < (noise[1:] == noise[:-1]).all(-1).float().mean() < 0.45
    never = Bursts(1000, size, ImitateConfig(burst_prob=0.0))
    assert never.draw(generator).eq(0).all()
    once = Bursts(1000, size, ImitateConfig(burst_prob=1.0, burst_steps=3))
    once.draw(generator)
    once.cfg = ImitateConfig(burst_prob=0.0)
    left = [float(once.draw(generator).ne(0).any(-1).float().mean()) for _ in range(3)]
    assert left == pytest.approx([2 / 3, 1 / 3, 0], abs=0.06)


@pytest.mark.invariance
def test_a_mirrored_world_is_told_with_the_signs_of_a_mirror() -> None:
    tracks = pool(FIRST, 2)
    line, sim = build_lines(tracks, SEEABLE), Sim(tracks, 2, SimConfig(frame_skip=3))
    sim.reset()
    teach = expert_teacher(line)
    for _ in range(40):
        sim.step(teach(tracks, sim.state) + torch.tensor([0.1, 0.0, 0.0]))
    state, flip = sim.state, torch.tensor([-1.0, 1.0])
    turned = replace(line, points=line.points * flip)
    there = replace(
        state, pos=state.pos * flip, velocity=state.velocity * flip, heading=-state.heading, yaw_rate=-state.yaw_rate
    )
    sign = torch.tensor([-1.0 if name in TURNED else 1.0 for name in SITUATION])
    torch.testing.assert_close(situation(turned, there), situation(line, state) * sign, rtol=1e-4, atol=1e-4)
    # and so is the advice: steering changes its side, pedals do not
    advice = expert_teacher(turned)(tracks, there)
    torch.testing.assert_close(advice, teach(tracks, state) * torch.tensor([-1.0, 1.0, 1.0]), rtol=1e-3, atol=1e-3)


def test_a_student_of_states_comes_closer_to_its_teacher_and_leaves_the_value_alone() -> None:
    small = learner(steps=32 * 12, num_updates=60, warmup=10, learning_rate=3e-3, hidden=(64,), batch_size=64)
    value = small.policy.value_head.value.weight.clone()
    # later on the student leads itself to where everything is new
    losses = [metrics["loss/imitation"] for metrics in small.iterate(32 * 6)]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(value, small.policy.value_head.value.weight)
    assert small.policy.obs_norm.updates == 6  # type: ignore[union-attr]


def test_the_same_seed_learns_the_same_and_nobody_elses_chance_is_touched() -> None:
    before = torch.get_rng_state()
    weights = []
    for seed in (1, 1, 2):
        small = learner(PIXELS, seed=seed, **SEES)
        for _ in small.iterate(64):
            pass
        weights.append(torch.cat([p.flatten() for p in small.policy.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_kept_is_a_policy_like_any_other(tmp_path: Any) -> None:
    small = learner(PIXELS, **SEES)
    small.update_once()
    path = save_checkpoint(tmp_path, small.steps, small.policy.state_dict(), *small.trainer_state(), {})
    record = {"algo": "imitate", "env": "racing"} | PIXELS | small.cfg.model_dump(mode="json")
    policy = load_policy(record, path)
    assert torch.equal(policy.act(small.obs), small.policy.act(small.obs))
    again = learner(PIXELS, **SEES)
    again.begin_from(path)
    assert torch.equal(again.student.act(small.obs), policy.act(small.obs))


@pytest.mark.parametrize("obs", ["state", "lidar"])
def test_a_trained_driver_teaches_what_it_would_do_itself(obs: str) -> None:
    config = SimConfig(obs=obs, actions="continuous", frame_skip=2)
    policy = build("ppo", ImitateConfig(hidden=(8,)), spaces_of("racing", vars(config)), torch.Generator())
    assert isinstance(policy, Policy)
    sim = Sim(pool(FIRST, 2), 4, config)
    seen = sim.reset()
    torch.testing.assert_close(policy_teacher(policy, config)(sim.tracks, sim.state), policy.act(seen))
    with pytest.raises(UserError, match="sees pictures"):
        policy_teacher(policy, SimConfig(obs="pixels"))


@pytest.mark.golden
def test_controls_become_actions_that_do_the_same() -> None:
    controls = torch.tensor([[0.3, 0.8, 0.0], [-1.0, 0.0, 0.4]])
    for actions in ("continuous", "pedals"):
        check_actions(actions)
        torch.testing.assert_close(to_controls(actions, from_controls(actions, controls)), controls)
    with pytest.raises(UserError, match="by degrees"):
        check_actions("macro")


def test_an_encoder_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="mlp does not read"):
        learner(PIXELS)
    with pytest.raises(UserError, match="cnn does not read"):
        learner(TASK, **SEES)


@pytest.mark.golden
@pytest.mark.parametrize(
    ("controls", "macro", "discrete"),
    [
        # macro = 3 x steering of -0.4, -0.15, 0, 0.15, 0.4 + pedal of gas, coast, brake 0.12
        ([0.05, 1.0, 0.0], 6, 3),  # straight on at full gas
        ([0.32, 0.0, 0.0], 13, 1),  # 0.32 is nearer to 0.4 than to 0.15; coasting
        ([-0.20, 0.0, 0.5], 5, 4),  # -0.15 and the brake; of the five, brake: its distance is 0.5 against 0.64
        ([-1.00, 0.4, 0.0], 1, 2),  # full left; gas 0.4 is nearer to none than to full
    ],
)
def test_the_choice_nearest_to_what_a_teacher_does(controls: list[float], macro: int, discrete: int) -> None:
    for actions, wanted in (("macro", macro), ("discrete", discrete)):
        assert nearest(actions, torch.tensor([controls])).tolist() == [wanted]
        every = torch.arange({"macro": 15, "discrete": 5}[actions])
        assert torch.equal(nearest(actions, to_controls(actions, every)), every)


@pytest.mark.invariance
@pytest.mark.parametrize("actions", ["continuous", "pedals", "discrete", "macro"])
def test_a_mirrored_answer_steers_to_the_other_side_alone(actions: str) -> None:
    small = learner(TASK | {"actions": actions})
    advice = small._advice()
    there, here = (
        to_controls(actions, small.answers.action(answer, torch.zeros_like(answer)))
        for answer in (small.answers.mirrored(advice), advice)
    )
    torch.testing.assert_close(there, here * torch.tensor([-1.0, 1.0, 1.0]))


def test_a_student_of_choices_learns_them_and_noise_is_any_choice() -> None:
    small = learner(
        TASK | {"actions": "macro"}, steps=32 * 12, num_updates=60, warmup=10, learning_rate=3e-3, hidden=(64,)
    )
    answer = torch.tensor([[2.0], [7.0], [14.0], [0.0]])
    noise = torch.tensor([[0.0], [-1.0], [0.0], [1.0]])
    assert small.answers.action(answer, noise).tolist() == [2, 0, 14, 14]
    losses = [metrics["loss/imitation"] for metrics in small.iterate(32 * 6)]
    assert losses[-1] < 0.7 * losses[0]
    assert small.policy.act(small.obs).dtype == torch.int64

"""Planted faults in PPO and DQN: do the fast tests catch them?

Each fault is one change that a tired programmer might make. The package is copied to a temporary folder, changed there,
and the tests of its part run against the copy until the first of them fails. A fault that no test catches is named.

    python benchmarks/faults.py [NAME …]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from _row import publish

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("agents", "envs", "policies")
PPO_TESTS = ("tests/test_agents_ppo.py", "tests/test_agents_returns.py", "tests/test_agents_frames.py")
DQN_TESTS = ("tests/test_agents_targets.py", "tests/test_agents_replay.py", "tests/test_agents_dqn.py")
LIMIT = 600  # s, for the tests of one fault; a test that hangs has caught it too


@dataclass(frozen=True)
class Fault:
    """One change of one file."""

    name: str
    file: str
    old: str  # occurs once
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "PPO: a time limit counts as death",
        "agents/returns.py",
        "delta = reward + gamma * next_value * ~terminated - value",
        "delta = reward + gamma * next_value * ~(terminated | truncated) - value",
        PPO_TESTS,
    ),
    Fault(
        "PPO: advantages flow across time limits",
        "agents/returns.py",
        "(~(terminated | truncated)).to(reward.dtype)",
        "(~terminated).to(reward.dtype)",
        PPO_TESTS,
    ),
    Fault(
        "PPO: γ is missing in the decay",
        "agents/returns.py",
        "decay = gamma * gae_lambda * ",
        "decay = gae_lambda * ",
        PPO_TESTS,
    ),
    Fault(
        "PPO: bootstraps from the first observation of the next episode",
        "agents/ppo.py",
        "next_value[rollout.cut] = policy.value(policy.obs_norm(rollout.cut_obs[rollout.cut]))",
        "pass",
        PPO_TESTS,
    ),
    Fault(
        "PPO: sign of the entropy bonus",
        "agents/ppo.py",
        "- cfg.ent_coef * entropy",
        "+ cfg.ent_coef * entropy",
        PPO_TESTS,
    ),
    Fault(
        "PPO: the larger of the two surrogates",
        "agents/ppo.py",
        "-torch.minimum(ratio",
        "-torch.maximum(ratio",
        PPO_TESTS,
    ),
    Fault(
        "PPO: clipped on one side only",
        "agents/ppo.py",
        "ratio.clamp(1 - cfg.clip_coef, 1 + cfg.clip_coef)",
        "ratio.clamp(max=1 + cfg.clip_coef)",
        PPO_TESTS,
    ),
    Fault("PPO: gradients pile up", "agents/ppo.py", "        self.optimizer.zero_grad()\n", "", PPO_TESTS),
    Fault(
        "PPO: log-probability averaged over the dimensions of an action",
        "policies/distributions.py",
        "return -0.5 * (scaled**2).sum(-1)",
        "return -0.5 * (scaled**2).mean(-1)",
        (*PPO_TESTS, "tests/test_policies.py", "tests/test_policies_heads.py"),
    ),
    Fault(
        "PPO: rows that are no transitions are learned from",
        "agents/ppo.py",
        "    return rollout.valid.flatten().nonzero()[:, 0]\n",
        "    return torch.arange(rollout.reward.numel(), device=rollout.reward.device)\n",
        PPO_TESTS,
    ),
    Fault(
        "PPO: the normaliser moves before the update",
        "agents/ppo.py",
        "        batch = estimate(self.policy, rollout, self.obs, cfg)\n",
        "        if not isinstance(rollout.obs, Frames):\n"
        "            self.policy.obs_norm.update(rollout.obs.flatten(0, 1))\n"
        "        batch = estimate(self.policy, rollout, self.obs, cfg)\n",
        (*PPO_TESTS, "tests/test_agents_sb3_parity.py"),
    ),
    Fault(
        "PPO: the linear schedule starts again on resume",
        "agents/ppo.py",
        'self.steps, self.frames, self.updates = values["steps"], values["frames"], values["updates"]',
        'self.frames, self.updates = values["frames"], values["updates"]',
        PPO_TESTS,
    ),
    Fault(
        "DQN: a time limit counts as death",
        "agents/targets.py",
        "died = (terminated & counts.bool()).any(1)",
        "died = ((terminated | truncated) & counts.bool()).any(1)",
        DQN_TESTS,
    ),
    Fault("DQN: γ instead of γⁿ", "agents/targets.py", "powers[length] * ~died", "gamma * ~died", DQN_TESTS),
    Fault(
        "DQN: rewards of the next episode are summed",
        "agents/targets.py",
        "going = valid[:, 1:] & ~(terminated | truncated)[:, :-1]",
        "going = valid[:, 1:] & ~terminated[:, :-1]",
        DQN_TESTS,
    ),
    Fault(
        "DQN: reads across the write head",
        "agents/replay.py",
        "        self.valid[places] &= self.age[places] < ahead\n",
        "",
        DQN_TESTS,
    ),
    Fault(
        "DQN: online and target network swapped in double Q",
        "agents/dqn.py",
        "greedy_values(judged, chooser)",
        "greedy_values(chooser, judged)",
        DQN_TESTS,
    ),
    Fault(
        "DQN: bootstraps from the network that learns",
        "agents/dqn.py",
        "judged = target(batch.next_obs, generator)",
        "judged = online(batch.next_obs, generator)",
        DQN_TESTS,
    ),
    Fault(
        "PQN: the target is not detached",
        "agents/dqn.py",
        "        with torch.no_grad():\n            parts = flat",
        "        with torch.enable_grad():\n            parts = flat",
        DQN_TESTS,
    ),
    Fault(
        "DQN: the target network is never updated",
        "agents/dqn.py",
        "elif self.gradient_steps % self.cfg.target_every == 0:",
        "elif False:",
        DQN_TESTS,
    ),
    Fault(
        "DQN: exploration does not fade",
        "agents/dqn.py",
        "epsilon = linear(self.first_eps, self.steps,",
        "epsilon = linear(self.first_eps, 0,",
        DQN_TESTS,
    ),
    Fault(
        "DQN: importance weights are not inverted",
        "agents/targets.py",
        "(probability / probability.min()) ** -beta",
        "(probability / probability.min()) ** beta",
        DQN_TESTS,
    ),
    Fault(
        "DQN: quantiles are weighted the wrong way round",
        "agents/targets.py",
        "(gap < 0).to(p.dtype)",
        "(gap > 0).to(p.dtype)",
        DQN_TESTS,
    ),
    Fault(
        "DQN: the mask of a stack of pictures is off by one",
        "agents/replay.py",
        "back = torch.minimum(back, self.age[places].long()[:, None])",
        "back = torch.minimum(back, self.age[places].long()[:, None] + 1)",
        DQN_TESTS,
    ),
    Fault(
        "PQN: λ-returns flow across deaths",
        "agents/targets.py",
        "reward[t] + gamma * future.masked_fill(terminated[t], 0.0)",
        "reward[t] + gamma * future",
        DQN_TESTS,
    ),
)


def plant(fault: Fault, site: Path) -> None:
    """The package in a folder `drivetrain` below site, with the fault in it."""
    package = site / "drivetrain"
    shutil.copytree(ROOT / "cli", package)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = package / fault.file
    source = file.read_text(encoding="utf-8")
    if source.count(fault.old) != 1:
        raise SystemExit(f"the fault {fault.name!r} does not fit {fault.file} any more: bring it up to date")
    file.write_text(source.replace(fault.old, fault.new), encoding="utf-8")


def caught_by(fault: Fault) -> str | None:
    """The first test that fails with the fault planted; None if all pass."""
    tests = [test for test in fault.tests if (ROOT / test).exists()]
    with tempfile.TemporaryDirectory() as site:
        plant(fault, Path(site))
        env = os.environ | {"PYTHONPATH": site, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
        try:
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"a test ran for more than {LIMIT} s"
    if done.returncode == 0:
        return None
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode != 1 or not failed:
        raise SystemExit(f"the tests could not run with {fault.name!r}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[0].split(" - ")[0].removeprefix("FAILED ")


def main() -> None:
    asked = sys.argv[1:]
    chosen = [fault for fault in FAULTS if not asked or any(word in fault.name for word in asked)]
    found = {}
    for fault in chosen:
        found[fault.name] = caught_by(fault)
        print(f"{fault.name}: {found[fault.name] or 'NOT CAUGHT'}", flush=True)
    caught = sum(test is not None for test in found.values())
    publish({"faults": found}, "planted faults in PPO and DQN that the fast tests catch", f"{caught} of {len(found)}")


if __name__ == "__main__":
    main()

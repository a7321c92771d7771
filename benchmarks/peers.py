"""Learning curves of drivetrain and Stable-Baselines3, seed by seed in turn, each with its own best settings.

Both are scored in the same way: every twentieth of a training its policy plays some episodes without exploration, on
seeds kept for validation, while the clock stands still. Both sides have one thread, and the clock counts the processor
time of the process: on a quiet machine that is the time on the wall, and a busy one does not change it. Runs are
appended to a file of JSON lines as they end; what is there already is not run again, so that a measurement can be
stopped and continued, or given more seeds.

    python benchmarks/peers.py                                                  minutes: CartPole, 2 seeds
    python benchmarks/peers.py --envs CartPole-v1 Acrobot-v1 LunarLander-v3 racing --seeds 10
    python benchmarks/peers.py --plot-only                                      rows and curves of what is there

`--equal` adds a third side: Stable-Baselines3 with drivetrain's settings and network, by its own PPO or DQN.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import numpy as np
import torch
from _curves import Floats, draw, first_reach, interval
from _row import commit, machine, publish
from _zoo import PEERS, arguments_of

from drivetrain.agents import agent
from drivetrain.agents.config import TASK
from drivetrain.agents.presets import preset
from drivetrain.agents.worlds import make_env, play

TARGETS = {"CartPole-v1": 475.0, "Acrobot-v1": -80.0, "LunarLander-v3": 200.0, "racing": 900.0}
"""score to reach"""
RANDOM = {"CartPole-v1": 22.0, "Acrobot-v1": -500.0, "LunarLander-v3": -180.0, "racing": -30.0}
"""about what random actions score: the zero of the scale on which environments are put together"""
SIDES = ("drivetrain", "Stable-Baselines3", "Stable-Baselines3, our settings")
FIRST_SEED = 1_000_000_000
EVALUATIONS = 20
WARM_UP = 2_000
"""steps of a training that is thrown away, before the first of each kind"""


class Curve:
    """Scores over steps and seconds of one training; the clock stands while it is scored."""

    def __init__(self, algo: str, env: str, budget: int, episodes: int) -> None:
        self.env, self.budget, self.episodes = env, budget, episodes
        # the same task for both sides: what our preset makes of racing
        self.record = {name: value for name, value in preset(algo, env, {}).items() if name in TASK}
        self.points: list[list[float]] = []
        self.waited, self.next_at = 0.0, budget // EVALUATIONS
        self.began = time.process_time()

    def seconds(self) -> float:
        """Of training so far, processor time."""
        return time.process_time() - self.began - self.waited

    def look(self, steps: int, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Scores a policy if it is time to."""
        if steps < self.next_at:
            return
        seconds, began = self.seconds(), time.process_time()
        seeds = range(FIRST_SEED, FIRST_SEED + self.episodes)
        scores = play(self.env, self.record, _Acting(act), seeds, "cpu")
        self.points.append([float(steps), seconds, scores.mean])
        self.next_at += self.budget // EVALUATIONS
        self.waited += time.process_time() - began


class _Acting:
    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.act = act


def train_ours(curve: Curve, algo: str, seed: int) -> int:
    """Our PPO or DQN with the environment's preset. Returns the steps taken."""
    make: Any = agent.PPO if algo == "ppo" else agent.DQN
    learner = make(curve.env, seed=seed, device="cpu")
    for _ in learner.iterate(curve.budget):
        curve.look(learner.steps, learner.policy.act)
    return learner.steps


def train_equal(curve: Curve, algo: str, seed: int) -> int:
    """Its PPO or DQN with our settings and our network, as `--backend sb3` does. Returns the steps taken."""
    from drivetrain.agents.build import make_config
    from drivetrain.agents.sb3_backend import sb3_learner

    settings = preset(algo, curve.env, {}) | curve.record | {"vectorization": "sync"}
    config = make_config(algo, settings)
    lanes = make_env(curve.env, settings, config.num_envs, seed, "cpu")
    noise = torch.Generator().manual_seed(seed)
    learner = sb3_learner(lanes, config, noise, total_steps=curve.budget)  # type: ignore[arg-type]
    for _ in learner.iterate(curve.budget):
        curve.look(learner.steps, learner.policy.act)
    return learner.steps


def train_theirs(curve: Curve, algo: str, seed: int) -> int:
    """Its PPO or DQN with its own settings, in its own loop. Returns the steps taken."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    from drivetrain.agents.sb3_vec import Sb3VecEnv

    peer, lanes = PEERS[algo, curve.env], None
    if curve.env == "racing":
        lanes = Sb3VecEnv(make_env("racing", curve.record, peer.num_envs, seed, "cpu"))
    else:
        lanes = make_vec_env(curve.env, peer.num_envs, seed=seed)
    gamma = peer.arguments.get("gamma", 0.99)
    norm = VecNormalize(lanes, gamma=gamma) if peer.normalise else None
    algorithm: Any = stable_baselines3.PPO if algo == "ppo" else stable_baselines3.DQN
    model = algorithm("MlpPolicy", norm or lanes, seed=seed, device="cpu", **arguments_of(peer))

    def act(obs: torch.Tensor) -> torch.Tensor:
        seen = obs.numpy() if norm is None else norm.normalize_obs(obs.numpy())
        return torch.as_tensor(model.predict(seen, deterministic=True)[0])

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            curve.look(self.num_timesteps, act)
            return True

    model.learn(curve.budget, callback=Look())
    return int(model.num_timesteps)


TRAIN = dict(zip(SIDES, (train_ours, train_theirs, train_equal), strict=True))


def run(algo: str, env: str, side: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One training, as the line that is kept of it."""
    own = (
        PEERS[algo, env].steps if side == SIDES[1] else int(preset(algo, env, {}).get("steps", PEERS[algo, env].steps))
    )
    budget = asked.steps or own
    curve = Curve(algo, env, budget, asked.episodes)
    steps = TRAIN[side](curve, algo, seed)
    key = {"algo": algo, "env": env, "side": side, "seed": seed, "budget": budget, "episodes": asked.episodes}
    rate = round(steps / curve.seconds(), 1)
    where = {"commit": commit(), "machine": machine()}
    return key | {"points": curve.points, "steps_per_s": rate} | where


def missing(asked: argparse.Namespace, there: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, int]]:
    """(algorithm, environment, side, seed) that are still to be run, sides in turn."""
    done = {(row["algo"], row["env"], row["side"], row["seed"]) for row in chosen(asked, there)}
    for seed in range(asked.seeds):
        for env in asked.envs:
            for algo in asked.algos:
                for side in SIDES[: 3 if asked.equal else 2]:
                    if (algo, env) in PEERS and (algo, env, side, seed) not in done:
                        yield algo, env, side, seed


def chosen(asked: argparse.Namespace, there: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a file that belong to what is asked for."""
    fits = [row for row in there if row["env"] in asked.envs and row["algo"] in asked.algos]
    fits = [row for row in fits if row["episodes"] == asked.episodes and row["seed"] < asked.seeds]
    sides = SIDES[: 3 if asked.equal else 2]
    return [row for row in fits if row["side"] in sides and (not asked.steps or row["budget"] == asked.steps)]


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of a file; one that was cut off by an interruption is passed over."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"passed over: {line[:60]}")
    return found


def span(values: list[float], unit: str) -> str:
    """Median and range; values may be infinite."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.3g} {unit} ({low:,.3g} to {high:,.3g})" if low < np.inf else "never"


def summary(rows: list[dict[str, Any]], env: str) -> tuple[str, dict[str, Any]]:
    """One side on one environment: in words, and as numbers."""
    runs = [np.array(row["points"]) for row in rows]
    centre, low, high = interval([np.array([run[-1, 2] for run in runs])])
    reach = [first_reach(run, TARGETS[env]) for run in runs]
    reached = sum(steps < np.inf for steps, _ in reach)
    text = f"last score {centre:.1f} (95 % {low:.1f} to {high:.1f}); {reached} of {len(runs)} reach {TARGETS[env]:g}"
    text += f", in {span([r[0] for r in reach], 'steps')}, {span([r[1] for r in reach], 's')}"
    rate = span([float(row["steps_per_s"]) for row in rows], "steps/s")
    numbers = {"iqm": float(centre), "low": float(low), "high": float(high), "reached": reached, "seeds": len(runs)}
    return f"{text}; {rate}", numbers


def report(asked: argparse.Namespace, there: list[dict[str, Any]]) -> None:
    """Prints the rows and draws the curves of all that was run."""
    curves: dict[tuple[str, str], dict[str, list[Floats]]] = {}
    scaled: dict[str, list[Floats]] = {}
    rows = chosen(asked, there)
    for algo, env in sorted({(row["algo"], row["env"]) for row in rows}):
        texts, values = [], {}
        for side in SIDES:
            of_side = [r for r in rows if (r["algo"], r["env"], r["side"]) == (algo, env, side) and r["points"]]
            if not of_side:
                continue
            text, values[side] = summary(of_side, env)
            texts.append(f"{side}: {text}")
            curves.setdefault((algo, env), {})[side] = [np.array(row["points"]) for row in of_side]
            last = np.array([row["points"][-1][2] for row in of_side])
            scaled.setdefault(side, []).append((last - RANDOM[env]) / (TARGETS[env] - RANDOM[env]))
        publish(values, f"Learning curves, {algo} on {env}", ". ".join(texts))
    if len(curves) > 1:
        for side, runs in scaled.items():
            centre, low, high = interval(runs)
            print(f"{side}, {len(runs)} environments on a scale from random (0) to the score to reach (1): ", end="")
            print(f"IQM {centre:.3f} (95 % {low:.3f} to {high:.3f})")
    if curves:
        out = Path(asked.out).with_suffix(".png")
        draw(curves, TARGETS, out)
        print(f"curves: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1"], choices=list(TARGETS))
    parser.add_argument("--algos", nargs="+", default=["ppo", "dqn"], choices=["ppo", "dqn"])
    parser.add_argument("--seeds", type=int, default=2, help="seeds 0 to this minus one (default 2)")
    parser.add_argument("--steps", type=int, help="of every training; default: each side's own")
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation (default 20)")
    parser.add_argument("--equal", action="store_true", help="also Stable-Baselines3 with our settings")
    parser.add_argument("--out", default="runs/peers.jsonl", help="JSON lines; curves go beside it")
    parser.add_argument("--plot-only", action="store_true", help="run nothing")
    asked = parser.parse_args()
    file = Path(asked.out)
    file.parent.mkdir(parents=True, exist_ok=True)
    warm = set()
    torch.set_num_threads(1)
    for algo, env, side, seed in [] if asked.plot_only else list(missing(asked, read(file))):
        if (algo, env, side) not in warm:  # libraries are loaded and kernels compiled before the clock runs
            TRAIN[side](Curve(algo, env, WARM_UP, 1), algo, seed)
            warm.add((algo, env, side))
        row = run(algo, env, side, seed, asked)
        with file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        score = row["points"][-1][2] if row["points"] else float("nan")
        print(f"{algo} {env} {side} seed {seed}: last score {score:.1f}, {row['steps_per_s']:,.0f} steps/s", flush=True)
    report(asked, read(file))


if __name__ == "__main__":
    main()

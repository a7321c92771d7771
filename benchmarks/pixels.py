"""PPO from pictures beside Stable-Baselines3's PPO with CnnPolicy on Gymnasium's CarRacing-v3, by turns on one machine.

`preset`: each side as it is meant to be used: `drivetrain train ppo racing --obs pixels`, and the tuned settings of
RL Baselines3 Zoo (hyperparams/ppo.yml, CarRacing). Both processes run at once but take turns, one stopped while the
other works, so that a busy machine is equally busy for both. After equal time both are scored on CarRacing-v3.

`equal`: equal work. The same network (Mnih et al. 2015), pictures 96 x 96 x 3, environments, rollout, epochs and
minibatches on both sides; decisions a second with learning included.

The peer's wrappers of `preset` need OpenCV: pip install "drivetrain[bench]"
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, for both sides

from _row import publish

ENVS, STEPS, EPOCHS, MINIBATCH = 8, 128, 4, 256
"""of equal work"""
EQUAL_STEPS = ENVS * STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="equal", choices=("preset", "equal", "sb3"), help="default equal")
    parser.add_argument("--minutes", type=float, default=20.0, help="of each side (preset; default 20)")
    parser.add_argument("--turn", type=float, default=30.0, help="seconds a side works before the other (preset)")
    parser.add_argument("--episodes", type=int, default=100, help="test seeds 0 to this minus one (preset)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (equal)")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in (default: it is deleted)")
    parser.add_argument("--folder", type=Path, help="of the peer's process (sb3)")
    options = parser.parse_args()
    if options.part == "sb3":
        train_peer(options.folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if options.part == "preset":
            compare_presets(folder, options.minutes * 60, options.turn, options.episodes)
        else:
            compare_work(options.rounds)


# ---- each side's own preset ----------------------------------------------------------------------------------------


class Side:
    """A training in a process group of its own, which can be stopped and continued."""

    def __init__(self, name: str, command: list[str], log: Path, read: Callable[[], tuple[int, float] | None]) -> None:
        self.name, self.log, self.read, self.seconds = name, log, read, 0.0
        self.curve: list[tuple[float, int, float]] = []  # seconds, decisions, training score
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        os.killpg(self.process.pid, signal.SIGSTOP)

    def work(self, seconds: float) -> None:
        """Runs for so long.

        Raises:
            SystemExit: it has ended by itself.
        """
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended with code {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
        os.killpg(self.process.pid, signal.SIGCONT)
        time.sleep(seconds)
        os.killpg(self.process.pid, signal.SIGSTOP)
        self.seconds += seconds
        if found := self.read():
            self.curve.append((self.seconds, *found))
        print(f"{self.name}: {self.seconds:.0f} s, {self.curve[-1][1:] if self.curve else 'starting'}", flush=True)

    def end(self) -> None:
        """Asks it to store what it has and to leave."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.process.terminate()
            self.process.wait(120)


def compare_presets(folder: Path, limit: float, turn: float, episodes: int) -> None:
    """Train both by turns, score both, publish."""
    run, peer = folder / "ours", folder / "peer"
    peer.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "drivetrain", "train", "ppo", "racing", "--obs", "pixels", "--name", str(run)]
    theirs = [sys.executable, __file__, "sb3", "--folder", str(peer)]
    sides = [
        Side("drivetrain", command, folder / "ours.log", lambda: newest(run / "metrics.jsonl", "step", "train/return")),
        Side("sb3", theirs, folder / "peer.log", lambda: newest(peer / "curve.jsonl", "step", "return")),
    ]
    while sides[-1].seconds < limit:
        for side in sides:
            if side.process.poll() != 0:  # a side that has done all it was meant to do waits for the other
                side.work(min(turn, limit - side.seconds))
    for side in sides:
        side.end()
    command = [sys.executable, "-m", "drivetrain", "evaluate", str(run), "--env", "CarRacing-v3"]
    command += ["--episodes", str(episodes), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours = json.loads(done.stdout.splitlines()[-1])
    scores = score_peer(peer, episodes)
    words = []
    for side, mean, low in zip(
        sides, (ours["mean"], statistics.fmean(scores)), (ours["min"], min(scores)), strict=True
    ):
        _, steps, _ = side.curve[-1]
        rate = steps / side.seconds
        words.append(f"{side.name}: {steps:,} decisions ({rate:,.0f}/s), CarRacing-v3 mean {mean:.1f}, min {low:.0f}")
    ratio = sides[0].curve[-1][1] / sides[0].seconds / (sides[1].curve[-1][1] / sides[1].seconds)
    publish(
        {"ours": ours, "peer": scores, "curves": {side.name: side.curve for side in sides}},
        f"PPO from pictures, own presets, {limit / 60:g} minutes each by turns, test seeds 0 to {episodes - 1}",
        "; ".join(words) + f"; decisions a second {ratio:.0f} times",
    )


def newest(file: Path, step: str, score: str) -> tuple[int, float] | None:
    """(decisions, training score) of the last whole line."""
    if not file.exists():
        return None
    for line in reversed(file.read_text().splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        return int(row[step]), float(row.get(score, float("nan")))
    return None


def make_zoo_env() -> Any:
    """CarRacing-v3 as the Zoo's settings wrap it: every second frame, 64 x 64, grey."""
    import gymnasium
    from gymnasium.wrappers import GrayscaleObservation, ResizeObservation

    class FrameSkip(gymnasium.Wrapper):  # type: ignore[type-arg]
        def step(self, action: Any) -> Any:
            total = 0.0
            for _ in range(2):
                obs, reward, terminated, truncated, info = self.env.step(action)
                total += float(reward)
                if terminated or truncated:
                    break
            return obs, total, terminated, truncated, info

    env = FrameSkip(gymnasium.make("CarRacing-v3"))
    return GrayscaleObservation(ResizeObservation(env, (64, 64)), keep_dim=True)


def zoo_envs(count: int) -> Any:
    """The vector environment of the Zoo's settings, rewards not yet normalised."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    return VecFrameStack(make_vec_env(make_zoo_env, count, seed=0, vec_env_cls=SubprocVecEnv), 2)


def train_peer(folder: Path) -> None:
    """Stable-Baselines3 with the Zoo's settings until it is told to end; stores its weights then."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(2)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls % 64 == 0:
                self._note()
            return not ended

        def _note(self) -> None:
            lately = [episode["r"] for episode in self.model.ep_info_buffer or []]
            row = {"step": self.num_timesteps, "return": statistics.fmean(lately) if lately else float("nan")}
            with (folder / "curve.jsonl").open("a") as out:
                out.write(json.dumps(row) + "\n")

    envs = VecNormalize(zoo_envs(8), norm_obs=False, norm_reward=True)
    network = {
        "log_std_init": -2,
        "ortho_init": False,
        "activation_fn": torch.nn.GELU,
        "net_arch": {"pi": [256], "vf": [256]},
    }
    model = PPO(
        "CnnPolicy",
        envs,
        n_steps=512,
        batch_size=128,
        n_epochs=10,
        learning_rate=lambda left: 1e-4 * left,
        use_sde=True,
        sde_sample_freq=4,
        policy_kwargs=network,
        seed=0,
        device="cpu",
    )
    model.learn(4_000_000, callback=Watch())
    model.save(folder / "model.zip")


def score_peer(folder: Path, episodes: int) -> list[float]:
    """Scores of the stored weights on CarRacing-v3, seed after seed, without exploration."""
    import numpy as np
    from stable_baselines3 import PPO

    model = PPO.load(folder / "model.zip", device="cpu")
    env, scores = make_zoo_env(), []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        stack, total, done = np.concatenate((np.zeros_like(obs), obs), -1), 0.0, False
        while not done:
            action, _ = model.predict(stack, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            stack = np.concatenate((stack[..., 1:], obs), -1)
            total, done = total + reward, terminated or truncated
        scores.append(total)
    return scores


# ---- equal work ----------------------------------------------------------------------------------------------------


def compare_work(rounds: int) -> None:
    """One update after the other of each side by turns, after one to warm up; publish."""
    from drivetrain.device import keep_freed_memory, set_threads

    set_threads(None)
    keep_freed_memory()  # both sides live in this process
    ours, theirs = our_update(), peer_update()
    ours(), theirs()
    rates: dict[str, list[float]] = {"drivetrain": [], "sb3": []}
    for _ in range(rounds):
        for name, update in (("drivetrain", ours), ("sb3", theirs)):
            began = time.perf_counter()
            update()
            rates[name].append(EQUAL_STEPS / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
    words = [f"{name} {statistics.median(x):,.0f}/s ({min(x):,.0f} to {max(x):,.0f})" for name, x in rates.items()]
    publish(
        {"rates": rates, "ratios": ratios},
        f"PPO from pictures, equal work: network of Mnih et al., 96 x 96 x 3, {ENVS} environments, {STEPS} steps, "
        f"{EPOCHS} epochs, minibatches of {MINIBATCH}; decisions a second",
        f"{', '.join(words)}; {statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f})",
    )


def our_update() -> Callable[[], object]:
    """A whole round of ours."""
    from drivetrain.agents import PPO

    agent = PPO(
        "racing",
        device="cpu",
        obs="pixels",
        actions="continuous",
        frame_skip=1,
        picture="rgb",
        picture_size=96,
        crop=False,
        frame_stack=1,
        encoder="cnn",
        channels=(32, 64, 64),
        hidden=(512,),
        shared_trunk=True,
        num_envs=ENVS,
        num_steps=STEPS,
        update_epochs=EPOCHS,
        num_minibatches=EQUAL_STEPS // MINIBATCH,
        target_kl=None,
    )
    return agent.learner.update_once


def peer_update() -> Callable[[], object]:
    """A whole round of Stable-Baselines3, its environments in processes of their own."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    envs = make_vec_env(lambda: gymnasium.make("CarRacing-v3"), ENVS, seed=0, vec_env_cls=SubprocVecEnv)
    model = PPO("CnnPolicy", envs, n_steps=STEPS, batch_size=MINIBATCH, n_epochs=EPOCHS, seed=0, device="cpu")
    return lambda: model.learn(EQUAL_STEPS, reset_num_timesteps=False)


if __name__ == "__main__":
    main()

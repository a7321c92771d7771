"""Train a driver in the twin, then let it drive one lap in Gymnasium's own CarRacing-v3."""

import drivetrain
from drivetrain.agents import PPO

agent = PPO("racing", seed=0)
for metrics in agent.iterate(1_500_000):
    if agent.learner.updates % 20 == 0:
        print(f"{agent.steps:>9,} steps, mean score of the last 100 episodes {metrics.get('train/return', 0.0):.0f}")

env = drivetrain.original(obs="state", **{name: agent.task[name] for name in ("actions", "frame_skip")})
obs, _ = env.reset(seed=0)
score, ended = 0.0, False
while not ended:
    action, _ = agent.predict(obs, deterministic=True)
    obs, reward, terminated, truncated, _ = env.step(action)
    score += float(reward)
    ended = terminated or truncated
print(f"one lap of CarRacing-v3, seed 0: {score:.1f}")

"""The world: tracks, cars, rewards."""

if __name__ == "envs":
    # Compiled kernels are cached under the name they were imported by: a second name would spoil the cache.
    raise ImportError("this folder is the package drivetrain.envs; install with `pip install -e .` and import that")

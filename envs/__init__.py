"""The world: tracks, cars, rewards."""

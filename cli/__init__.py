"""drivetrain: train neural-network drivers, watch them, and score them in the original CarRacing-v3."""

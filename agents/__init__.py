"""Learning: how a policy gets better."""

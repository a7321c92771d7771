"""Networks: what decides."""

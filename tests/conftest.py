"""What holds for every test."""

from __future__ import annotations

import os

# Help pages and tables fold their lines to the width of the terminal; tests read them at one width, wherever they run.
os.environ["COLUMNS"] = "120"
# Whoever runs the tests may be logged in at wandb: nothing of theirs goes there.
os.environ["WANDB_MODE"] = "disabled"

"""Makes envs/score.npz: what CarRacing-v3's picture shows for every score, read off pygame's own font and averaging.

Run it again when Gymnasium writes the score differently. It measures nothing; tests hold the table equal to pygame.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from drivetrain.envs.indicators import LOWEST, SCORE_BOX

HIGHEST = 1_000


def table() -> np.ndarray:
    """uint8 [1102, rows, columns], see drivetrain.envs.indicators.score_table."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    import pygame

    pygame.font.init()
    font = pygame.font.Font(pygame.font.get_default_font(), 42)
    top, bottom, left, right = SCORE_BOX
    pictures = []
    for score in (*range(LOWEST, HIGHEST + 1), -0.1):
        surface = pygame.Surface((1000, 800))
        text = font.render(f"{score:04.0f}", True, (255, 255, 255), (0, 0, 0))
        box = text.get_rect()
        box.center = (60, 750)
        surface.blit(text, box)
        small = pygame.surfarray.array3d(pygame.transform.smoothscale(surface, (96, 96)))[:, :, 0].T
        assert not small[:top].any(), "the score is higher than its box"
        assert not small[bottom:].any(), "the score is lower than its box"
        assert not small[:, right:].any(), "the score is wider than its box"
        pictures.append(small[top:bottom, left:right])
    return np.stack(pictures)


if __name__ == "__main__":
    out = Path(__file__).resolve().parents[1] / "envs" / "score.npz"
    np.savez_compressed(out, score=table())
    print(f"{out}: {out.stat().st_size} bytes")

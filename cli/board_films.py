"""Films as TensorBoard can show them: it knows no mp4, but pictures that move.

A film becomes a time lapse: few pictures, evenly spread over it, small, shown faster than they were taken.
"""

from __future__ import annotations

import io
from pathlib import Path

__all__ = ["gif_of"]

WIDTH = 240  # px, at most
MOST_PICTURES = 60
SHOWN_FOR = 100  # ms a picture
COLOURS = 128


def gif_of(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A film as a gif, and its size in px (width, height).

    Raises:
        OSError, ValueError: it is no film.
        ImportError: PyAV or Pillow is missing.
    """
    import av
    from PIL import Image

    # beside its speed it keeps rare colours, such as that of a small car
    fast = Image.Quantize.FASTOCTREE
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        total = stream.frames or MOST_PICTURES
        wanted = {round(i * (total - 1) / max(1, MOST_PICTURES - 1)) for i in range(MOST_PICTURES)}
        pictures: list[Image.Image] = []
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                width = min(WIDTH, frame.width)
                small = frame.reformat(width, max(1, round(frame.height * width / frame.width)), format="rgb24")
                pictures.append(Image.fromarray(small.to_ndarray()).quantize(COLOURS, fast, dither=Image.Dither.NONE))
    if not pictures:
        raise ValueError(f"{path} has no picture")
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=SHOWN_FOR, loop=0)
    return file.getvalue(), pictures[0].size

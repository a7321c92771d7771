"""A TensorBoard event file, written without importing torch: scalars, histograms, pictures, pages and settings."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from drivetrain.journal import is_number

__all__ = ["EVENTS", "METRICS", "EventFile", "experiment", "forget_after"]

METRICS = {
    "result/best": "best score",
    "result/score": "last score",
    "result/steps_per_s": "steps/s",
}
"""scalars that stand beside the settings in the table of hyper-parameters, and their titles"""
EVENTS = "events.out.*"  # names of event files
HEAD, TAIL = 12, 4  # bytes around an event
FIRST = ("algo", "env", "seed")
ENDED_WELL, ENDED_BADLY = ("done", "reached"), ("diverged", "failed")


class EventFile:
    """One event file.

    Args:
        folder: of the run, made when absent.
        keep_until: what lies after this step in older files there is removed: an abandoned continuation wrote it; -1
            for a run that begins.
    """

    def __init__(self, folder: Path, keep_until: int = -1) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        forget_after(folder, keep_until)
        self._writer = EventFileWriter(str(folder))
        # a TensorBoard that has read the older files forgets from this step on, if it has seen another beginning, hence
        # that of a new run too; its faster reader does not
        start = Event(wall_time=time.time(), step=keep_until + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.add_event(start)

    def scalars(self, step: int, values: Mapping[str, Any], when: float | None = None) -> None:
        """One point of each curve; what is no number is left out. ``when`` = seconds since 1970, None = now."""
        kept = {name: value for name, value in values.items() if is_number(value)}
        self._add(step, [self._summary.Value(tag=name, simple_value=value) for name, value in kept.items()], when)

    def histograms(self, step: int, values: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> None:
        """Of each name counts, and their edges, which are one more."""
        from tensorboard.plugins.histogram.metadata import create_summary_metadata

        for name, (counts, edges) in values.items():
            rows = [[edges[i], edges[i + 1], float(count)] for i, count in enumerate(counts)]
            self._tensor(step, name, create_summary_metadata(None, ""), rows)

    def text(self, step: int, name: str, markdown: str) -> None:
        """A page; TensorBoard renders Markdown."""
        from tensorboard.plugins.text.metadata import create_summary_metadata

        self._tensor(step, name, create_summary_metadata(None, ""), [markdown])

    def image(self, step: int, name: str, data: bytes, size: tuple[int, int]) -> None:
        """A picture as a file has it, png or gif (which moves), of ``size`` = (width, height) px."""
        from tensorboard.plugins.image.metadata import create_summary_metadata

        parts = [str(size[0]).encode(), str(size[1]).encode(), data]
        self._tensor(step, name, create_summary_metadata(None, ""), parts)

    def settings(self, values: Mapping[str, Any], started: float) -> None:
        """The run's row in the table of hyper-parameters."""
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        info = SessionStartInfo(start_time_secs=started)
        for name, value in values.items():
            _put(info.hparams[name], value)
        self._hparams(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))

    def ended(self, step: int, status: str) -> None:
        """How the run ended; nothing is told of one that may go on."""
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        if status not in ENDED_WELL + ENDED_BADLY:
            return
        word = api_pb2.STATUS_SUCCESS if status in ENDED_WELL else api_pb2.STATUS_FAILURE
        info = SessionEndInfo(status=word, end_time_secs=time.time())
        self._hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info), step)

    def columns(self, runs: Sequence[Mapping[str, Any]]) -> None:
        """Which settings and results the table of hyper-parameters shows; see ``experiment``."""
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        self._hparams(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment(runs)))

    def flush(self) -> None:
        """Hand everything to the system."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _hparams(self, tag: str, data: Any, step: int = 0) -> None:
        from tensorboard.plugins.hparams import metadata

        value = self._summary.Value(
            tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
        )
        self._add(step, [value])

    def _tensor(self, step: int, tag: str, metadata: Any, values: Sequence[Any]) -> None:
        from tensorboard.util.tensor_util import make_tensor_proto

        self._add(step, [self._summary.Value(tag=tag, metadata=metadata, tensor=make_tensor_proto(values))])

    def _add(self, step: int, values: list[Any], when: float | None = None) -> None:
        if values:
            moment = time.time() if when is None else when
            self._writer.add_event(self._event(wall_time=moment, step=step, summary=self._summary(value=values)))


def forget_after(folder: Path, step: int) -> None:
    """Remove what lies after a step from the event files of a folder; a file that cannot be read stays as it is."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboard.compat.proto.event_pb2 import Event

    for path in sorted(folder.glob(EVENTS)):
        rest = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(path, "rb") as old, open(rest, "wb") as new:
                for raw in _raw_events(old):
                    if Event.FromString(raw[HEAD:-TAIL]).step <= step:
                        new.write(raw)
            if 0 < rest.stat().st_size < path.stat().st_size:
                os.replace(rest, path)
        except (OSError, DecodeError):
            continue
        finally:
            rest.unlink(missing_ok=True)


def _raw_events(file: BinaryIO) -> Iterator[bytes]:
    """Each event with its frame: its length, a checksum of that, itself, a checksum of it."""
    size = os.fstat(file.fileno()).st_size
    while len(head := file.read(HEAD)) == HEAD:
        (length,) = struct.unpack("<Q", head[:8])
        if length + TAIL > size - file.tell():  # a kill cut it off
            return
        yield head + file.read(length + TAIL)


def experiment(runs: Sequence[Mapping[str, Any]]) -> Any:
    """The columns of the table of hyper-parameters: what was learned, what was tried out, and how it came out.

    Tried out is a setting in which runs of the same algorithm and environment differ; of a single run it is all.

    Args:
        runs: the settings of each run by name.

    Returns:
        TensorBoard's Experiment message.
    """
    from tensorboard.plugins.hparams import api_pb2

    names = sorted({name for run in runs for name in run})
    tried = [name for name in names if len(runs) == 1 or any(_differs(name, alike) for alike in _kinds(runs))]
    # `differs` is what TensorBoard sorts by
    columns = [
        api_pb2.HParamInfo(name=name, type=_type(name, runs), differs=name in FIRST or len(runs) > 1)
        for name in names
        if name in FIRST or name in tried
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title) for tag, title in METRICS.items()
    ]
    return api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)


def _kinds(runs: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        kinds.setdefault((str(run.get("algo")), str(run.get("env"))), []).append(run)
    return list(kinds.values())


def _differs(name: str, runs: Sequence[Mapping[str, Any]]) -> bool:
    return len({str(_plain(run[name])) if name in run else "" for run in runs}) > 1


def _type(name: str, runs: Sequence[Mapping[str, Any]]) -> Any:
    from tensorboard.plugins.hparams import api_pb2

    found = {type(_plain(run[name])) for run in runs if name in run}
    types: dict[type, Any] = {bool: api_pb2.DATA_TYPE_BOOL, float: api_pb2.DATA_TYPE_FLOAT64}
    return types.get(found.pop(), api_pb2.DATA_TYPE_STRING) if len(found) == 1 else api_pb2.DATA_TYPE_STRING


def _put(slot: Any, value: Any) -> None:
    value = _plain(value)
    if isinstance(value, bool):
        slot.bool_value = value
    elif isinstance(value, float):
        slot.number_value = value
    else:
        slot.string_value = value


def _plain(value: Any) -> bool | float | str:
    """As the table can hold it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in value.items()) or "empty"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value) or "empty"
    return "none" if value is None else str(value)

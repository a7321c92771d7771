"""A TensorBoard event file, written without importing torch: scalars, histograms, pictures, pages and settings."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["METRICS", "EventFile", "experiment"]

METRICS = {
    "result/best": "best score",
    "result/score": "last score",
    "result/steps_per_s": "steps/s",
}
"""scalars that stand beside the settings in the table of hyper-parameters, and their titles"""
ENDED_WELL, ENDED_BADLY = ("done", "reached"), ("diverged", "failed")


class EventFile:
    """One event file.

    Args:
        folder: of the run, made when absent.
        keep_until: TensorBoard is told to forget what lies after this step, which an abandoned continuation wrote;
            -1 for a run that begins.
    """

    def __init__(self, folder: Path, keep_until: int = -1) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))
        if keep_until >= 0:  # TensorBoard forgets from the step that it is given on, not after it
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=keep_until + 1, session_log=start))

    def scalars(self, step: int, values: Mapping[str, Any], when: float | None = None) -> None:
        """One point of each curve; what is no number is left out. ``when`` = seconds since 1970, None = now."""
        kept = {name: value for name, value in values.items() if _is_number(value)}
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

    def ended(self, status: str, when: float) -> None:
        """How the run ended; nothing is told of one that may go on."""
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        if status not in ENDED_WELL + ENDED_BADLY:
            return
        word = api_pb2.STATUS_SUCCESS if status in ENDED_WELL else api_pb2.STATUS_FAILURE
        info = SessionEndInfo(status=word, end_time_secs=when)
        self._hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))

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

    def _hparams(self, tag: str, data: Any) -> None:
        from tensorboard.plugins.hparams import metadata

        value = self._summary.Value(
            tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
        )
        self._add(0, [value])

    def _tensor(self, step: int, tag: str, metadata: Any, values: Sequence[Any]) -> None:
        from tensorboard.util.tensor_util import make_tensor_proto

        self._add(step, [self._summary.Value(tag=tag, metadata=metadata, tensor=make_tensor_proto(values))])

    def _add(self, step: int, values: list[Any], when: float | None = None) -> None:
        if values:
            moment = time.time() if when is None else when
            self._writer.add_event(self._event(wall_time=moment, step=step, summary=self._summary(value=values)))


def experiment(runs: Sequence[Mapping[str, Any]]) -> Any:
    """The columns of the table of hyper-parameters: settings in which these runs differ, and how they came out.

    Args:
        runs: the settings of each run by name.

    Returns:
        TensorBoard's Experiment message.
    """
    from tensorboard.plugins.hparams import api_pb2

    names = sorted({name for run in runs for name in run})
    columns = []
    for name in names:
        found = [_plain(run[name]) for run in runs if name in run]
        kinds = {_kind(value) for value in found}
        if len(set(map(str, found))) < 2 and len(found) == len(runs) and len(runs) > 1:
            continue
        kind = kinds.pop() if len(kinds) == 1 else api_pb2.DATA_TYPE_STRING
        columns.append(api_pb2.HParamInfo(name=name, type=kind))
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title) for tag, title in METRICS.items()
    ]
    return api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)


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


def _kind(value: bool | float | str) -> Any:
    from tensorboard.plugins.hparams import api_pb2

    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_FLOAT64 if isinstance(value, float) else api_pb2.DATA_TYPE_STRING


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

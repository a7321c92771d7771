"""The simulator against CarRacing-v3 at the published size: roads, random drives, contacts, laps of the expert."""

from __future__ import annotations

import torch
from _row import publish

from drivetrain.parity import ParityOptions, parity_report


def main() -> None:
    torch.set_num_threads(1)
    options = ParityOptions()
    report = parity_report(options)
    laps, wheel_frames = len(report["laps"]), report["wheel_frames"]
    del report["laps"]
    result = "; ".join(
        [
            f"{report['tracks'] - report['tracks_differing']} of {report['tracks']} roads equal point for point",
            f"{report['laps_of_equal_length']} of {laps} expert laps of equal length, "
            f"largest score gap {report['score_gap']:.1e}",
            f"{report['drives']} random drives of {report['drive_frames']} frames: largest position error "
            f"{report['position_error_max']:.2g} u, median at the end {report['position_error_median']:.1g} u, "
            f"largest reward error {report['reward_error_max']:.1e}",
            f"{report['contact_mismatches']} contact mismatches in {wheel_frames} wheel-frames",
            f"{report['pictures']} pictures: mean absolute error {report['picture_mae']:.3f} levels",
        ]
    )
    publish(report, "Parity with CarRacing-v3", result)


if __name__ == "__main__":
    main()

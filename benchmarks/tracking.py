"""What wandb may cost a training, and what reaches it: faults, overhead, and kills with resumption.

faults: the same short training without wandb and under eight faults; what it leaves behind must be the same, and its
start and end may be delayed only so much. overhead: a longer training without tracking and with `--track offline`, by
turns. cycles: a training is killed at random moments and resumed, over and over, against a server on loopback
(tests/wandb_server.py) that stores rows by offset as the real one does.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _row import publish

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from wandb_server import WandbServer

from drivetrain.wandb_rows import STRIDE

DRIVETRAIN = [sys.executable, "-P", "-m", "drivetrain"]
KEY = "0123456789" * 4  # of no account
SMALL = ["--num-envs", "64", "--num-tracks", "8", "--hidden", "32", "--threads", "1", "--device", "cpu"]
FAULTS = ("no network", "refused midway", "silent", "401", "500", "name lookup hangs", "service killed", "disk full")
TIMES = ("seconds", "time/steps_per_s", "time/eval_seconds")  # of a record; all else must be equal


def environment(url: str) -> dict[str, str]:
    """Variables of a user who is logged in at this server."""
    names = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"}
    return {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | names


def start(arguments: list[str], env: Mapping[str, str], wrap: list[str] | None = None) -> subprocess.Popen[bytes]:
    """A drivetrain process; its words are read later."""
    command = [*(wrap or []), *DRIVETRAIN, *arguments]
    return subprocess.Popen(command, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 120) -> float:
    """When a file appeared, with something in it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if path.exists() and path.stat().st_size:
            return time.monotonic()
        time.sleep(0.01)
    return time.monotonic()


def trace(run: Path) -> str:
    """A hash of everything a training left behind that does not depend on the clock."""
    digest = hashlib.sha256()
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        digest.update(json.dumps({name: value for name, value in record.items() if name not in TIMES}).encode())
    for path in sorted(run.glob("checkpoints/*/model.safetensors")):
        digest.update(path.parent.name.encode() + path.read_bytes())
    digest.update((run / "eval.csv").read_bytes())
    return digest.hexdigest()


def timed(name: str, track: str, env: Mapping[str, str], wrap: list[str] | None, during: Any = None) -> dict[str, Any]:
    """One short training: trace, exit code, s to the first record, s from the last record to the end."""
    run = Path("runs", name)
    arguments = ["train", "ppo", "racing", *SMALL, "--steps", "120000", "--eval-every", "40000"]
    arguments += ["--checkpoint-every", "20000", "--track", track, "--name", name]
    began = time.monotonic()
    process = start(arguments, env, wrap)
    first = wait_for(run / "metrics.jsonl", process)
    if during is not None:
        during(run, process)
    ended = wait_for(run / "result.json", process)
    out, _ = process.communicate(timeout=180)
    end = time.monotonic()
    lines = [line for line in out.decode().splitlines() if line.startswith("wandb:")]
    code = process.returncode
    return {"trace": trace(run), "code": code, "start": first - began, "end": end - ended, "lines": lines, "run": run}


@contextlib.contextmanager
def fault(kind: str) -> Iterator[tuple[str, list[str] | None, Any]]:
    """(address of the server, what to wrap the command in, what to do during the training) of a fault."""
    with WandbServer() as server:
        wrap, during, url = None, None, server.url
        if kind == "no network":
            server.http.shutdown()
            server.http.server_close()
        elif kind == "refused midway":
            server.fault, server.fault_after = "refused", 4
        elif kind in ("silent", "401", "500"):
            server.fault = kind
        elif kind == "name lookup hangs":
            url, wrap = "http://wandb.example", silent_resolver()
        elif kind == "service killed":
            during = kill_service
        elif kind == "disk full":
            wrap = full_disk()
        yield url, wrap, during


@functools.cache
def mute_name_server() -> socket.socket:
    """A socket that takes questions for addresses and never answers."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.99", 53))
    return listener


def silent_resolver() -> list[str]:
    """A name server on loopback that never answers, put in place for one process by a mount of its own (needs root)."""
    mute_name_server()
    conf, nss = Path("resolv.conf"), Path("nsswitch.conf")
    conf.write_text("nameserver 127.0.0.99\n")
    nss.write_text("hosts: files dns\n")
    mounts = f"mount --bind {conf.absolute()} /etc/resolv.conf; mount --bind {nss.absolute()} /etc/nsswitch.conf"
    return ["unshare", "-rm", "sh", "-c", f'{mounts}; exec "$@"', "sh"]


def full_disk() -> list[str]:
    """RUN/wandb is a file system of 48 KiB, mounted as soon as the run folder is there."""
    named = 'for a in "$@"; do [ "$p" = --name ] && r="runs/$a/wandb"; p="$a"; done'
    wait = 'while [ ! -d "$(dirname $r)" ]; do sleep 0.02; done'
    mount = f'{named}; ({wait}; mkdir "$r"; mount -t tmpfs -o size=48k none "$r") &'
    return ["unshare", "-rm", "sh", "-c", f'{mount} exec "$@"', "sh"]


def kill_service(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Kill wandb's own process as soon as it is at work."""
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        for core in service_of(run):
            os.kill(core, signal.SIGKILL)
            return
        time.sleep(0.02)


def service_of(run: Path) -> list[int]:
    """Process ids of the wandb-core of a run, once its run file is there."""
    if not list(run.glob("wandb/*run-*/*.wandb")):
        return []
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            named = f"WANDB_DATA_DIR={(run / 'wandb').absolute()}".encode() in path.read_bytes()
            if named and b"wandb-core" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
    return found


def faults(kinds: tuple[str, ...], repeats: int) -> None:
    """Every fault, some times; by turns with the same training without wandb."""
    starts, ends = list[float](), list[float]()
    same = runs = 0
    for kind in kinds:
        rows, plain = [], []
        for number in range(repeats):
            name = f"{kind.replace(' ', '-')}-{number}"
            plain.append(timed(f"none-{name}", "none", environment("http://127.0.0.1:9"), None))
            with fault(kind) as (url, wrap, during):
                rows.append(timed(name, "wandb", environment(url), wrap, during))
        good = sum(row["trace"] == plain[0]["trace"] and row["code"] == 0 for row in rows)
        late = [[row[name] - other[name] for row, other in zip(rows, plain, strict=True)] for name in ("start", "end")]
        words = [
            f"{name} {statistics.median(d):+.1f} s ({max(d):+.1f} at worst)"
            for name, d in zip(("start", "end"), late, strict=True)
        ]
        print(f"{kind}: {good} of {repeats} equal; {', '.join(words)}; {rows[-1]['lines']}", flush=True)
        same, runs = same + good, runs + repeats
        starts, ends = starts + late[0], ends + late[1]
    result = f"{same} of {runs} trainings left what a training without wandb leaves; "
    result += f"start later by a median of {statistics.median(starts):.1f} s ({max(starts):.1f} at worst), "
    result += f"end by {statistics.median(ends):.1f} s ({max(ends):.1f} at worst)"
    values = {"same": same, "runs": runs, "start_s": starts, "end_s": ends}
    publish(values, f"`--track wandb` under {len(kinds)} faults, {repeats} trainings each", result)


def cost(track: str, name: str, steps: int, threads: str) -> tuple[float, float]:
    """(wall clock, processor time of it and all its processes), s, of a training."""
    arguments = ["train", "ppo", "racing", "--steps", str(steps), "--device", "cpu", "--track", track, "--name", name]
    env = environment("http://127.0.0.1:9")
    env.pop("OMP_NUM_THREADS")
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [*DRIVETRAIN, *arguments, "--threads", threads, "--eval-every", str(steps // 4)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    service = 0.0  # wandb's own process is nobody's child at the end: it is asked while it lives
    while process.poll() is None:
        service = max([service, *(processor_seconds(pid) for pid in service_of(Path("runs", name)))])
        time.sleep(0.5)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    assert process.returncode == 0
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + service


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def overhead(pairs: int, steps: int, threads: str) -> None:
    """Trainings without tracking and offline, by turns."""
    walls, cpus = [], []
    for number in range(pairs):
        both = {}
        for track in ("none", "offline") if number % 2 else ("offline", "none"):
            both[track] = cost(track, f"cost-{track}-{number}", steps, threads)
        walls.append(both["offline"][0] / both["none"][0])
        cpus.append(both["offline"][1] / both["none"][1])
        print(f"pair {number}: none {both['none']}, offline {both['offline']}", flush=True)
    wall, cpu = (100 * (statistics.median(ratios) - 1) for ratios in (walls, cpus))
    spread = f"{100 * (min(walls) - 1):+.1f} to {100 * (max(walls) - 1):+.1f}"
    result = f"{wall:+.1f} % of wall clock ({spread}), {cpu:+.1f} % of processor time"
    what = f"`--track offline` against none, PPO on racing, {steps:,} steps, {threads} threads, {pairs} pairs by turns"
    publish({"wall": walls, "cpu": cpus}, what, result)


def cycles(number: int, seed: int) -> None:
    """Kill and resume a training that is mirrored online, and look at what the server has."""
    draw = random.Random(seed)
    with WandbServer() as server:
        env, run = environment(server.url), Path("runs/cycles")
        arguments = ["train", "ppo", "racing", *SMALL, "--num-envs", "8", "--num-steps", "256", "--name", "cycles"]
        arguments += ["--steps", "9000000", "--eval-every", "600000", "--checkpoint-every", "30000"]
        arguments += ["--video-every", "300000"]
        process = start(arguments, env)
        for cycle in range(number):
            wait_for_records(run, draw.randrange(1, 60), process)
            process.kill()
            process.wait()
            print(f"kill {cycle}: {len(server.run.records) if server.runs else 0} rows at the server", flush=True)
            if cycle == number // 2:  # once the mirroring process is killed too, in the middle of its work
                for core in service_of(run):
                    os.kill(core, signal.SIGKILL)
            last = cycle == number - 1
            extra = ["--steps", str(max(steps_of(run)) + 60_000), "--video-every", "30000"] if last else []
            process = start(["resume", "cycles", *extra], env)
        out, _ = process.communicate(timeout=900)
        print("\n".join(line for line in out.decode().splitlines() if "wandb" in line))
        report(server, run, number)


def steps_of(run: Path) -> list[int]:
    """The step of every whole record so far."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line)["step"] for line in lines]


def wait_for_records(run: Path, number: int, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until a training has added some; a resumption first takes back what its checkpoint does not cover."""
    end, least = time.monotonic() + seconds, len(steps_of(run))
    while time.monotonic() < end and process.poll() is None:
        now = len(steps_of(run))
        least = min(least, now)
        if now >= least + number:
            return
        time.sleep(0.02)


def report(server: WandbServer, run: Path, number: int) -> None:
    """Compare the server with metrics.jsonl, and play the film."""
    truth = {record["seq"]: record for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}
    rows = [(row["_step"] // STRIDE, row) for row in server.run.records]
    seqs = [seq for seq, _ in rows]
    missing, double = len(truth.keys() - set(seqs)), len(seqs) - len(set(seqs))
    stale = sum(seq not in truth or not is_same(row, truth[seq]) for seq, row in rows)
    committed = [artifact for artifact in server.artifacts if artifact.committed]
    aliases = sorted({alias for artifact in committed for alias in artifact.aliases})
    pictures = [frames(content) for name, content in server.run.files.items() if name.endswith(".mp4")]
    result = f"{len(rows):,} rows of {len(truth):,} records under {len(server.runs)} id: {missing} missing, "
    result += f"{double} double, {stale} that differ from metrics.jsonl; {len(pictures)} films arrived and play "
    result += f"({min(pictures, default=0)} pictures or more); {len(committed)} models, aliases {', '.join(aliases)}"
    values = {"rows": len(rows), "missing": missing, "double": double, "stale": stale, "films": pictures}
    publish(values, f"a training killed and resumed {number} times, mirrored online", result)


def is_same(row: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a row holds what the record does, apart from times."""
    names = [name for name, value in record.items() if "/" in name and isinstance(value, (int, float))]
    same = all(row.get(name) == record[name] for name in names if name not in TIMES)
    return same and row["global_step"] == record["step"]


def frames(content: bytes) -> int:
    """Pictures in a film, all of them decoded."""
    import av

    with av.open(io.BytesIO(content)) as film:
        return sum(1 for _ in film.decode(video=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["faults", "overhead", "cycles"])
    parser.add_argument("--repeats", type=int, default=5, help="trainings under each fault")
    parser.add_argument("--faults", nargs="+", default=FAULTS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4_000_000, help="of a training whose cost is measured")
    parser.add_argument("--threads", default="2", help="of a training whose cost is measured")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if "faults" in args.what:
            faults(tuple(args.faults), args.repeats)
        if "overhead" in args.what:
            overhead(args.pairs, args.steps, args.threads)
        if "cycles" in args.what:
            cycles(args.cycles, args.seed)


if __name__ == "__main__":
    main()

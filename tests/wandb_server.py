"""A wandb server on loopback, with as much of its conversation as wandb-core 0.31 holds: runs, files, artifacts.

History is stored as the real server does it: line by line at the offset that the client names, so that a client that
resumes at the wrong offset overwrites rows, and one that sends a row twice appends it twice. Faults are switched on
while it runs. It keeps everything in memory and needs no account: every key is welcome.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY, EVENTS, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"


@dataclass
class Run:
    """What the server knows of a run."""

    id: str
    project: str
    entity: str
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=lambda: {HISTORY: {}, EVENTS: {}, SUMMARY: {}})
    files: dict[str, bytes] = field(default_factory=dict)
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    display_name: str | None = None
    exit_codes: list[int] = field(default_factory=list)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its rows in the order of their offsets."""
        return [json.loads(line) for _, line in sorted(self.lines[HISTORY].items())]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows that mirror a record, without those that carry a film or picture."""
        return [row for row in self.history if "seconds" in row]

    @property
    def summary(self) -> dict[str, Any]:
        """Its summary as sent last."""
        last = sorted(self.lines[SUMMARY].items())[-1:]
        return dict(json.loads(last[0][1])) if last else {}

    def tail(self, name: str) -> str:
        """The last line of a stream, as the server hands it to a client that resumes."""
        last = sorted(self.lines[name].items())[-1:]
        return json.dumps([line for _, line in last])


@dataclass
class Artifact:
    """A version of a model."""

    id: str
    name: str
    digest: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


class WandbServer:
    """Serves from construction to ``close``; a context manager.

    ``fault``: "" (none), "silent" (accepts and never answers), "refused" (drops connections), or a status code.
    ``fault_after``: requests that are answered before the fault begins.
    """

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: list[Artifact] = []
        self.requests: list[str] = []  # operation or path, in order
        self.authorizations: set[str] = set()
        self.fault, self.fault_after = "", 0
        self.lock = threading.RLock()
        self.ids = itertools.count(1)
        self.released = threading.Event()  # lets silent requests go at the end
        self.http = Http(("127.0.0.1", port), Handler, self)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> WandbServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self.released.set()
        self.http.shutdown()
        self.http.server_close()

    @property
    def run(self) -> Run:
        """The only run."""
        (run,) = self.runs.values()
        return run

    def failing(self, request: str) -> str:
        """The fault that this request meets; notes the request."""
        with self.lock:
            self.requests.append(request)
            return self.fault if len(self.requests) > self.fault_after else ""

    def graphql(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to an operation; empty where nothing is known of it."""
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "RunResumeStatus": self.resume_status,
            "UpsertBucket": self.upsert,
            "CreateRunFiles": self.run_files,
            "CreateArtifact": self.create_artifact,
            "CreateArtifactManifest": self.create_manifest,
            "CreateArtifactFiles": self.create_files,
            "CommitArtifact": self.commit,
            "Viewer": lambda _: {"viewer": {"id": "1", "entity": "tester", "username": "tester", "flags": "{}"}},
            "ArtifactType": lambda _: {"project": None},
            "RunStoppedStatus": lambda _: {"project": {"run": {"stopped": False}}},
        }
        with self.lock:
            return answers.get(name, lambda _: {})(given)

    def resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        """What a client that resumes needs to know."""
        run = self.runs.get(given["name"])
        model = {"id": "p1", "name": given["project"], "entity": {"id": "e1", "name": "tester"}, "bucket": None}
        if run is not None:
            known = run.config.get("_wandb", {}).get("value", {})
            model["bucket"] = {
                "id": f"bucket-{run.id}",
                "name": run.id,
                "summaryMetrics": json.dumps(run.summary),
                "displayName": run.display_name,
                "logLineCount": 0,
                "historyLineCount": len(run.lines[HISTORY]),
                "eventsLineCount": len(run.lines[EVENTS]),
                "historyTail": run.tail(HISTORY),
                "eventsTail": run.tail(EVENTS),
                "config": json.dumps(run.config),
                "tags": run.tags,
                "notes": None,
                "wandbConfig": json.dumps({"t": known.get("t", {})}),
            }
        return {"model": model}

    def upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        """Make or change a run."""
        new = given["name"] not in self.runs
        entity = given.get("entity") or "tester"
        run = self.runs.setdefault(given["name"], Run(given["name"], given["project"], entity))
        run.config |= json.loads(given.get("config") or "{}")
        run.group, run.tags = given.get("groupName") or run.group, given.get("tags") or run.tags
        run.display_name = given.get("displayName") or run.display_name
        project = {"id": "p1", "name": run.project, "entity": {"id": "e1", "name": entity}}
        bucket = {"id": f"bucket-{run.id}", "name": run.id, "displayName": run.display_name, "description": None}
        bucket |= {"config": json.dumps(run.config), "sweepName": None, "project": project}
        bucket |= {"historyLineCount": len(run.lines[HISTORY])}
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        """Where to put the files of a run."""
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": f"bucket-{given['run']}", "uploadHeaders": [], "files": files}}

    def create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        """A new version; an equal one is the old one with more aliases."""
        given = given.get("input", given)
        aliases = [alias["alias"] for alias in given.get("aliases") or []]
        name, metadata = given["artifactCollectionName"], json.loads(given.get("metadata") or "{}")
        found = [a for a in self.artifacts if (a.name, a.digest) == (name, given["digest"]) and a.committed]
        artifact = found[0] if found else Artifact(f"artifact{next(self.ids)}", name, given["digest"], [], metadata)
        for other in self.artifacts:
            other.aliases = [alias for alias in other.aliases if alias not in (*aliases, "latest")]
        artifact.aliases += [alias for alias in {*aliases, "latest"} if alias not in artifact.aliases]
        if not found:
            self.artifacts.append(artifact)
        state = "COMMITTED" if found else "PENDING"
        sequence = {"id": "s1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": state, "artifactSequence": sequence}}}

    def create_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        """Where to put the manifest of a version."""
        given = given.get("input", given)
        url = f"{self.url}/artifact/{given['artifactID']}/wandb_manifest.json"
        file = {"id": "f1", "name": "wandb_manifest.json", "displayName": "wandb_manifest.json"}
        file |= {"uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{given['artifactID']}", "file": file}}}

    def create_files(self, given: dict[str, Any]) -> dict[str, Any]:
        """Where to put the files of a version."""
        specs = given.get("input", given)["artifactFiles"]
        nodes = [
            {
                "storagePath": f"{spec['artifactID']}/{spec['name']}",
                "uploadUrl": f"{self.url}/artifact/{spec['artifactID']}/{spec['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            for spec in specs
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def commit(self, given: dict[str, Any]) -> dict[str, Any]:
        """A version is complete."""
        wanted = given.get("input", given)["artifactID"]
        (artifact,) = [artifact for artifact in self.artifacts if artifact.id == wanted]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": wanted, "digest": artifact.digest}}}

    def stream(self, name: str, body: dict[str, Any]) -> None:
        """Lines for the streams of a run, and its end."""
        with self.lock:
            run = self.runs[name]
            for file, chunk in body.get("files", {}).items():
                for number, line in enumerate(chunk["content"]):
                    run.lines.setdefault(file, {})[chunk["offset"] + number] = line
            if body.get("complete"):
                run.exit_codes.append(int(body.get("exitcode", 0)))

    def store(self, path: str, body: bytes) -> None:
        """A file of a run or artifact."""
        _, kind, owner, name = path.split("/", 3)
        with self.lock:
            if kind == "put":
                self.runs[owner].files[name] = body
            else:
                (artifact,) = [artifact for artifact in self.artifacts if artifact.id == owner]
                artifact.files[name] = body


class Http(ThreadingHTTPServer):
    """The listening socket."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""

    def __init__(self, address: tuple[str, int], handler: type[Handler], owner: WandbServer) -> None:
        self.owner = owner
        super().__init__(address, handler)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Http

    def do_POST(self) -> None:
        """GraphQL and the streams."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.startswith("/sdk/"):  # telemetry, which nobody should send
            self.server.owner.requests.append(self.path)
            return self.answer(200, {})
        self.server.owner.authorizations.add(self.headers.get("Authorization", ""))
        request = json.loads(body) if body else {}
        named = re.match(r"\s*(?:query|mutation)\s+(\w+)", request.get("query", ""))
        name = named[1] if named else self.path
        if self.fails(name):
            return None
        if self.path.endswith("/file_stream"):
            self.server.owner.stream(self.path.split("/")[-2], request)
            return self.answer(200, {"exitcode": None, "limits": {}})
        return self.answer(200, {"data": self.server.owner.graphql(name, request.get("variables") or {})})

    def do_PUT(self) -> None:
        """An upload."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.fails(f"PUT {self.path}"):
            self.server.owner.store(self.path, body)
            self.answer(200, {})

    def do_HEAD(self) -> None:
        """Somebody asks whether the server is there."""
        if not self.fails("HEAD"):
            self.answer(200, {})

    do_GET = do_HEAD

    def fails(self, request: str) -> bool:
        """Meet the present fault, if there is one."""
        fault = self.server.owner.failing(request)
        if not fault:
            return False
        if fault == "silent":
            self.server.owner.released.wait(600)
            self.close_connection = True
        elif fault == "refused":
            self.close_connection = True
        else:
            self.answer(int(fault), {"errors": [{"message": f"fault {fault}"}]})
        return True

    def answer(self, status: int, values: dict[str, Any]) -> None:
        """Send JSON."""
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)

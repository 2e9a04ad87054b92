"""`runwarden demo`: a recorded run is written to a file, faster than life, and the real daemon watches it go wrong.

Nothing is spent and nothing is posted unless LIVE=1 is set, whatever keys happen to be exported.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

from monitor.cli.say import FAILED, OK, fail, postponed
from monitor.incident import Incident, Life
from monitor.reader import Reader

LIMIT_S = 55.0
LINGER_S = 1.0
LIVE_KEYS = ("ANTHROPIC_API_KEY", "SLACK_BOT_TOKEN", "SLACK_CHANNEL")

_CONFIG = """\
state_dir: {folder}/state
sources:
  - files: {{paths: ["{folder}/runs"], name: demo}}
sinks:
  terminal: {{}}
web: {{listen: "127.0.0.1:0"}}
metrics: {{listen: "127.0.0.1:0"}}
log: {{level: warning}}
"""
_SLACK = """\
  slack: {channel: "%s", token: {env: SLACK_BOT_TOKEN}}
"""
_CLAUDE = """\
analysis:
  hold_s: 30
  claude: {api_key: {env: ANTHROPIC_API_KEY}}
"""


def demo(keep: Path | None) -> int:
    """Run it; 0 when the incident was paged, explained, scored and resolved."""
    settings = _live(os.environ)
    if isinstance(settings, int):
        return settings
    with postponed() as check, _folder(keep) as folder:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        config = folder / "demo.yaml"
        config.write_text(_CONFIG.format(folder=folder).replace("  terminal: {}\n", f"  terminal: {{}}\n{settings[0]}"))
        with config.open("a") as f:
            f.write(settings[1])
        code = _play(folder, config, check)
    if keep is None and code == OK:
        print("demo: all but the chart is deleted now; `runwarden demo --keep DIR` keeps it for `runwarden incidents`.")
    return code


def _live(environ: Mapping[str, str]) -> tuple[str, str] | int:
    """Config for Slack and Claude, empty unless LIVE=1; an exit code if a key is missing."""
    if environ.get("LIVE") != "1":
        present = [k for k in LIVE_KEYS if environ.get(k)]
        if present:
            print(f"demo: {', '.join(present)} found and not used; LIVE=1 would use them.")
        return "", ""
    missing = [k for k in LIVE_KEYS if not environ.get(k)]
    if missing:
        return fail(f"LIVE=1 needs {', '.join(missing)} as well", 2)
    print(
        f"demo: LIVE=1: this posts to Slack channel {environ['SLACK_CHANNEL']} and spends tokens of your Anthropic key."
    )
    return _SLACK % environ["SLACK_CHANNEL"], _CLAUDE


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)  # OSError: main says it
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="runwarden-demo-"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # interrupted: nothing is left behind
        raise
    shutil.rmtree(folder / "runs", ignore_errors=True)
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (folder / "state" / name).unlink(missing_ok=True)


def _play(folder: Path, config: Path, check: Callable[[], None]) -> int:
    # Their own session: a Ctrl-C ends this process, which then ends them.
    daemon = subprocess.Popen([sys.executable, "-m", "monitor", "run", "--config", config], start_new_session=True)
    writer: subprocess.Popen[bytes] | None = None
    try:
        deadline = time.monotonic() + LIMIT_S
        if not _wait((folder / "state" / "control.sock").exists, deadline, daemon, check):
            return fail("the daemon did not start", FAILED)
        print("demo: a recorded training run is being written now; its page comes when the run goes wrong.", flush=True)
        with as_file(files("monitor.cli") / "demo.jsonl.gz") as recording:
            target = folder / "runs" / "demo-run.jsonl"
            command = [sys.executable, "-m", "monitor.cli.demo_writer", str(recording), str(target)]
            writer = subprocess.Popen(command, start_new_session=True)
            reader = Reader(folder / "state" / "state.db")
            done = _wait(lambda: _settled(reader) is not None, deadline, daemon, check)
            incident = _settled(reader)
            reader.close()
        if not done or incident is None:
            return fail(f"the incident was not settled within {LIMIT_S:g} s", FAILED)
        time.sleep(LINGER_S)  # the last edit reaches the terminal
        check()
        print(f"demo: chart {folder / 'state' / 'charts' / (incident.id + '.png')}")
        print("demo: the run was paged, explained, its predictions scored, and the incident resolved.", flush=True)
        return OK
    finally:
        for process in (writer, daemon):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _settled(reader: Reader) -> Incident | None:
    """A resolved incident that was paged, with a scored prediction, all of it delivered."""
    with contextlib.suppress(sqlite3.OperationalError):
        for incident in reader.incidents():
            scored = any(outcome in ("confirmed", "refuted") for _, _, outcome, _ in reader.predictions(incident.id))
            delivered = not any(d.incident == incident.id for d in reader.deliveries())
            if incident.paged_row >= 0 and incident.state is Life.RESOLVED and scored and delivered:
                return incident
    return None


def _wait(
    condition: Callable[[], bool], deadline: float, daemon: subprocess.Popen[bytes], check: Callable[[], None]
) -> bool:
    """Whether the condition came true. check: raises when this was interrupted."""
    while time.monotonic() < deadline and daemon.poll() is None:
        check()
        if condition():
            return True
        time.sleep(0.1)
    return False

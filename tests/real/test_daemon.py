"""The real daemon as a process, between a growing file and a Slack on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from build import falling
from doubles.slack import CHANNEL, TOKEN, SlackDouble

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
STOP_S = 5.0


def wait(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {patience_s:g} s: {what}")


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


class Slack:
    """The double in a thread of its own."""

    def __init__(self) -> None:
        self.double = SlackDouble()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self.double.start(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.double.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def messages(self, run: str) -> list[dict[str, Any]]:
        return [m for m in self.double.messages() if run in m["text"]]

    def thread(self, message: dict[str, Any]) -> list[str]:
        return [m["text"] for m in self.double.replies(message["ts"])]


@pytest.fixture
def slack() -> Iterator[Slack]:
    made = Slack()
    yield made
    made.close()


@dataclass
class Host:
    """A folder with runs and a state; daemons started in it are ended at the end."""

    folder: Path
    slack: Slack
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        (self.folder / "runs").mkdir()

    @property
    def log(self) -> str:
        return "".join(self.said)

    def _listen(self, daemon: subprocess.Popen[bytes]) -> None:
        assert daemon.stdout is not None
        for line in daemon.stdout:
            self.said.append(line.decode(errors="replace"))

    def config(self, name: str = "c", more: str = "", state: str = "state", paths: str = "") -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(
            f"state_dir: {self.folder}/{state}\n"
            f"sources: [{{files: {{paths: [{paths or self.folder / 'runs'}], poll_s: 0.1}}}}]\n"
            f"sinks: {{slack: {{channel: {CHANNEL}, token: {{env: SLACK_BOT_TOKEN}}, base_url: '{self.slack.url}'}}}}\n"
            "metrics: {listen: '127.0.0.1:0'}\n"
            f"{more or 'web: {listen: null}'}\n"
        )
        return path

    def start(self, config: Path | None = None, *, ready: bool = True) -> subprocess.Popen[bytes]:
        """A daemon; `ready`: wait until it has looked at its folder."""
        environ = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
        environ |= {"SLACK_BOT_TOKEN": TOKEN} | self.environ
        heard = len(self.said)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "monitor", "run", "--config", config or self.config()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, cwd=ROOT,
        )  # fmt: skip
        self.daemons.append(daemon)
        threading.Thread(target=self._listen, args=(daemon,), daemon=True).start()
        if ready:
            address = lambda: "".join(self.said[heard:]).partition("metrics http://")[2].partition("/metrics")[0]  # noqa: E731
            self.url = wait(lambda: address() or daemon.poll(), f"the start {self.log}")
            assert daemon.poll() is None, self.log
            wait(lambda: get(f"http://{self.url}/readyz")[0] == 200, f"the first look\n{self.log}")
        return daemon

    def append(self, run: str, n: int, value: float | None = None, **changes: object) -> None:
        begin = self.written.get(run, 0)
        losses = falling(n, start=begin).tolist() if value is None else [value] * n
        with (self.folder / "runs" / f"{run}.jsonl").open("a") as f:
            for i, x in enumerate(losses):
                f.write(json.dumps({"step": begin + i, "t": time.time(), "loss": x} | changes) + "\n")
        self.written[run] = begin + n

    def goes_nan(self, run: str) -> dict[str, Any]:
        """The run grows before our eyes and turns NaN; its message."""
        self.append(run, 60)
        time.sleep(0.4)
        self.append(run, 5, float("nan"))
        wait(lambda: self.slack.messages(run), f"the page of {run}\n{self.log}")
        return self.slack.messages(run)[0]

    def stop(self, daemon: subprocess.Popen[bytes], patience_s: float = STOP_S) -> int:
        daemon.send_signal(signal.SIGTERM)
        return daemon.wait(patience_s)

    def close(self) -> None:
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait(10)
            if daemon.stdout is not None:
                daemon.stdout.close()


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory, slack: Slack) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("d"), slack)
    yield made
    made.close()


def test_a_run_that_goes_nan_is_one_message_edited_with_its_thread_and_is_not_paged_again(host):
    daemon = host.start()
    message = host.goes_nan("seven")
    assert "seven: non-finite values, loss is NaN at step 60" in message["text"]
    host.append("seven", 20)
    wait(lambda: any("Resolved" in t for t in host.slack.thread(message)), "the resolution in the thread")
    wait(lambda: "esolved" in host.slack.messages("seven")[0]["text"] + str(message["blocks"]), "the edit")
    assert host.slack.double.count("chat.update") >= 1
    said = host.slack.thread(message)
    assert host.stop(daemon) == 0

    again = host.start()
    time.sleep(1.5)
    assert host.stop(again) == 0
    assert len(host.slack.messages("seven")) == 1
    assert host.slack.thread(message) == said
    assert "Traceback" not in host.log


def test_sigterm_ends_it_in_time_also_while_slack_does_not_answer(host):
    host.slack.double.fail("chat.postMessage", times=1000, delay_s=float("inf"))
    daemon = host.start()
    host.append("r", 60)
    time.sleep(0.4)
    host.append("r", 5, float("nan"))
    wait(lambda: host.slack.double.count("chat.postMessage"), "the attempt")
    assert host.stop(daemon, STOP_S + 3.0) == 0


def test_a_page_that_was_cut_off_by_the_end_is_delivered_once_by_the_next_start(host):
    host.slack.double.fail("chat.postMessage", times=1, status=503)
    daemon = host.start()
    host.append("r", 60)
    time.sleep(0.4)
    host.append("r", 5, float("nan"))
    wait(lambda: host.slack.double.count("chat.postMessage"), "the attempt")
    daemon.kill()
    daemon.wait(10)
    host.slack.double.faults.clear()
    host.start()
    wait(lambda: host.slack.messages("r"), "the page")
    time.sleep(1.0)
    assert len(host.slack.messages("r")) == 1


def test_what_was_there_before_is_history(host):
    host.append("old", 100)
    host.append("old", 20, float("nan"))
    daemon = host.start()
    host.goes_nan("new")
    assert host.slack.messages("old") == []
    assert host.stop(daemon) == 0


def test_systemd_hears_ready_watchdog_and_stopping(host):
    address = str(host.folder / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(PATIENCE_S)
        host.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
        daemon = host.start()
        heard: list[str] = []
        while sum("WATCHDOG=1" in h for h in heard) < 3:
            heard.append(systemd.recv(4096).decode())
        assert heard[0].startswith("READY=1")
        daemon.send_signal(signal.SIGTERM)
        while not any("STOPPING=1" in h for h in heard):
            heard.append(systemd.recv(4096).decode())
        assert daemon.wait(STOP_S) == 0


# --- what must not break it


def test_two_daemons_on_one_state_the_second_is_refused_and_the_first_goes_on(host):
    first = host.start()
    second = host.start(ready=False)
    assert second.wait(PATIENCE_S) == 1
    assert "another runwarden uses this state" in host.log
    assert host.goes_nan("r")
    assert (host.folder / "state" / "control.sock").exists()
    assert host.stop(first) == 0


def test_a_port_in_use_is_said_and_ends_the_start(host):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        more = f"web: {{listen: '127.0.0.1:{port}'}}"
        daemon = host.start(host.config(more=more), ready=False)
        assert daemon.wait(PATIENCE_S) == 1
    assert str(port) in host.log
    assert "Traceback" not in host.log


@pytest.mark.parametrize("t", [1e30, float("inf"), "9999-12-31T23:59:59-12:00"])
def test_a_run_with_an_impossible_clock_is_paged_like_any_other(host, t):
    daemon = host.start()
    host.append("odd", 60, t=t)
    time.sleep(0.4)
    host.append("odd", 5, float("nan"), t=t)
    assert host.goes_nan("sane")
    assert daemon.poll() is None, host.log
    wait(lambda: host.slack.messages("odd"), "the page of the odd run")


def test_a_file_name_that_is_not_utf8_does_not_end_the_watch(host):
    daemon = host.start()
    name = os.fsencode(host.folder / "runs") + b"/bad\xff.jsonl"
    Path(os.fsdecode(name)).write_bytes(b'{"step": 1, "loss": 2.0}\n' * 5)
    time.sleep(1.5)
    assert daemon.poll() is None, host.log
    assert host.goes_nan("sane")


def test_a_chart_that_cannot_be_written_does_not_keep_a_page(host):
    daemon = host.start()
    charts = host.folder / "state" / "charts"
    for old in charts.iterdir():
        old.unlink()
    charts.rmdir()
    charts.write_text("in the way")
    assert host.goes_nan("r")
    assert daemon.poll() is None, host.log


def test_a_state_folder_that_is_deleted_is_not_passed_over_in_silence(host):
    daemon = host.start()
    for path in sorted((host.folder / "state").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (host.folder / "state").rmdir()
    host.append("r", 60)
    time.sleep(0.4)
    host.append("r", 5, float("nan"))
    wait(lambda: host.slack.messages("r") or daemon.poll() not in (None, 0), "a page or an end that systemd sees")


def test_a_full_disk_is_told_by_readiness_survived_and_does_not_hold_up_the_end(host):
    daemon = host.start()
    host.append("r", 60)
    wait(lambda: get(f"http://{host.url}/readyz")[0] == 200, "readiness")
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    host.append("r", 5, float("nan"))
    wait(lambda: get(f"http://{host.url}/readyz")[0] == 503, "that it is not ready")
    assert "store" in get(f"http://{host.url}/readyz")[1]
    time.sleep(3.0)
    assert daemon.poll() is None, host.log
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait(lambda: host.slack.messages("r"), f"the page\n{host.log}")
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    host.append("r", 5, float("nan"))
    time.sleep(1.5)
    assert host.stop(daemon, STOP_S + 3.0) in (0, 1)


def test_a_full_disk_while_a_page_is_due_does_not_end_the_daemon(host):
    host.slack.double.fail("chat.postMessage", times=2, status=503)
    daemon = host.start()
    host.append("r", 60)
    time.sleep(0.4)
    host.append("r", 5, float("nan"))
    wait(lambda: host.slack.double.count("chat.postMessage"), "the attempt")
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    time.sleep(3.0)
    assert daemon.poll() is None, host.log
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait(lambda: host.slack.messages("r"), f"the page\n{host.log}")


def test_ten_thousand_files_are_watched_and_one_of_them_pages(host):
    for n in range(10_000):
        (host.folder / "runs" / f"f{n:05}.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    daemon = host.start()
    time.sleep(3.0)
    assert daemon.poll() is None, host.log[-2000:]
    host.append("f05000", 30)
    assert host.goes_nan("f05000")
    assert {m["text"].split(": ")[1] for m in host.slack.double.messages()} == {"f05000"}


def test_patterns_in_paths_are_followed(host):
    (host.folder / "runs" / "a").mkdir()
    host.append("a/metrics", 40)
    daemon = host.start(host.config(paths=f"{host.folder}/runs/*/metrics.jsonl"))
    host.append("a/metrics", 20)
    time.sleep(0.4)
    host.append("a/metrics", 3, float("nan"))
    wait(host.slack.double.messages, f"the page\n{host.log}")
    assert daemon.poll() is None


# --- the demo


def demo(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")}
    return subprocess.run(
        [sys.executable, "-m", "monitor", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env=base | environ,
    )


def test_the_demo_pages_explains_resolves_and_ends_well():
    done = demo({})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the run was paged, explained, its predictions scored, and the incident resolved" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_demo_calls_nobody_whatever_keys_are_exported():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        address = f"http://127.0.0.1:{door.getsockname()[1]}"
        keys = {"ANTHROPIC_API_KEY": "sk-1", "SLACK_BOT_TOKEN": "xoxb-1", "SLACK_CHANNEL": "C0123456789"}
        proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "ANTHROPIC_BASE_URL"), address)
        done = demo(keys | proxies)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "found and not used" in done.stdout
        with contextlib.suppress(BlockingIOError):
            door.accept()[0].close()
            pytest.fail("the demo called out")


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(tmp_path, sign, code):
    environ = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")} | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "monitor", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environ) as running:
        assert running.stdout is not None
        assert b"is being written now" in running.stdout.readline()
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(sign)
        _, err = running.communicate(timeout=20)
    assert running.returncode == code
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert children
    assert not any(Path("/proc", child).exists() for child in children)


def test_watch_says_what_it_understood_and_ends_well_when_interrupted(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("w")  # the path of a socket is short
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.jsonl").write_text('{"step": 1, "loss": 2.0, "t": 1e9}\n' * 5)
    environ = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TMPDIR")} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "monitor", "watch", str(tmp_path / "runs")]
    for rows in (5, 6):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environ) as running:
            assert running.stderr is not None
            heard = []
            for line in iter(running.stderr.readline, ""):
                heard.append(line)
                if "no data time" in line:
                    break
            running.send_signal(signal.SIGINT)
            running.stderr.read()
        assert running.returncode == 0, heard
        assert any(f"a: {tmp_path}/runs/a.jsonl, jsonl, {rows} rows so far" in line for line in heard), heard
        assert any("loss: loss" in line for line in heard)
        with (tmp_path / "runs" / "a.jsonl").open("a") as f:
            f.write('{"step": 2, "loss": 2.0, "t": 1e9}\n')

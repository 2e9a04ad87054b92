"""A user with bad input: what is wrong is said or counted, nothing is lost, and the other runs are still watched."""

# ruff: noqa: E501  bad input stands here in one piece

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from build import falling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cli import shell
from test_ledger import opened

from detectors import Suite
from detectors.types import Kind, Severity
from monitor.engine import Engine
from monitor.frame import Batch, Status
from monitor.incidents import Book, Transition
from monitor.pages import facts, headline
from monitor.sources.files import source as module
from monitor.sources.files.source import Watch

T0 = 1e9


def line(step: int, loss: object, **more: object) -> bytes:
    return json.dumps({"step": step, "t": T0 + step, "loss": loss} | more).encode() + b"\n"


def healthy(n: int, start: int = 0) -> bytes:
    return b"".join(line(start + i, x) for i, x in enumerate(falling(n, start=start).tolist()))


@dataclass
class World:
    """A folder, its watcher and the core; a neighbour run that must be watched whatever happens beside it."""

    folder: Path
    max_line_bytes: int = 1 << 20
    core: Engine = field(default_factory=lambda: Engine(Suite(), Book()))
    counts: dict[str, int] = field(default_factory=dict)
    told: list[Transition] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    now: float = T0
    last: Batch | None = None

    def __post_init__(self) -> None:
        self.path("neighbour.jsonl").write_bytes(healthy(100))
        self.watch = Watch("files", [str(self.folder)], {}, max_line_bytes=self.max_line_bytes)
        self.look()

    def path(self, name: str) -> Path:
        return self.folder / name

    def append(self, name: str, data: bytes) -> None:
        with self.path(name).open("ab") as f:
            f.write(data)

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            self.now += 2.0
            b = self.last = self.watch.poll(self.now)
            for what, n in b.counts.items():
                self.counts[what] = self.counts.get(what, 0) + n
            for f in b.frames:
                self.rows[f.run] = self.rows.get(f.run, 0) + f.row.size
            self.told += self.core.step(b).transitions

    def pages(self, run: str) -> list[Kind]:
        mine = [t.incident for t in self.told if t.incident.run == run]
        return list({i.id: i.kind for i in mine if i.severity is Severity.PAGE}.values())

    def the_neighbour_is_still_watched(self) -> None:
        before = self.rows["neighbour"]
        self.append("neighbour.jsonl", healthy(50, 100) + line(150, "NaN") + line(151, "NaN"))
        self.look()
        assert self.rows["neighbour"] == before + 52
        assert self.pages("neighbour") == [Kind.NONFINITE]


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "runs").mkdir()
    return World(tmp_path / "runs")


# --- files that are no logs


def fifo(path: Path) -> None:
    os.mkfifo(path)


NO_LOGS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "binary": (lambda p: p.write_bytes(bytes(range(256)) * 50), "file_binary"),
    "prose": (lambda p: p.write_text("Once upon a time\n" * 100), "file_unrecognised"),
    "empty": (lambda p: p.touch(), None),
    "nothing but newlines": (lambda p: p.write_bytes(b"\n" * 500), "file_unrecognised"),
    "a fifo that nobody writes": (fifo, "not_a_regular_file"),
    "a folder": (lambda p: p.mkdir(), None),
    "a link to nothing": (lambda p: p.symlink_to("nowhere"), "not_a_regular_file"),
    "a link to itself": (lambda p: p.symlink_to(p), "file_unreadable"),
    "a damaged archive": (lambda p: p.write_bytes(b"\x1f\x8b" + b"junk" * 50), "file_corrupt"),
    "an array": (lambda p: p.write_text("[1, 2, 3]\n" * 10), "file_unrecognised"),
    "a line without end": (lambda p: p.write_text('{"step": 1, "loss": '), None),
}


@pytest.mark.parametrize("what", NO_LOGS)
def test_what_is_no_log_is_counted_once_and_the_neighbour_still_watched(world, what):
    make, reason = NO_LOGS[what]
    make(world.path("x.jsonl"))
    world.look(6)
    assert world.counts == ({reason: 1} if reason else {})
    assert world.last is not None
    assert world.last.status is Status.OK
    assert "x" not in world.rows
    world.the_neighbour_is_still_watched()


def test_a_file_that_may_not_be_read_is_counted(world, monkeypatch):
    world.path("x.jsonl").write_bytes(healthy(10))
    real = os.open

    def denied(path: str, *args: int) -> int:
        if str(path).endswith("x.jsonl"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args)

    monkeypatch.setattr(os, "open", denied)
    world.look(5)
    assert world.counts == {"file_unreadable": 1}
    monkeypatch.setattr(os, "open", real)
    world.look()
    assert world.rows["x"] == 10
    world.the_neighbour_is_still_watched()


def test_a_file_name_that_is_not_utf8_is_watched_like_any_other(tmp_path):
    (tmp_path / "runs").mkdir()
    ledger = opened(tmp_path)
    name = os.fsencode(tmp_path / "runs") + b"/r\xff.jsonl"
    Path(os.fsdecode(name)).write_bytes(healthy(50) + line(50, "NaN"))
    watch = Watch("files", [str(tmp_path / "runs")], {}, max_line_bytes=1 << 20)
    ledger.process(watch.poll(T0 + 60))
    assert len(ledger.engine.runs) == 1
    watch.close()
    ledger.close()


def test_a_run_that_names_itself_with_half_a_character_is_watched_like_any_other(tmp_path):
    (tmp_path / "runs").mkdir()
    ledger = opened(tmp_path)
    rows = b"".join(b'{"step": %d, "loss": 2.0, "run": "r\\ud800"}\n' % i for i in range(20))
    (tmp_path / "runs" / "a.jsonl").write_bytes(rows)
    watch = Watch("files", [str(tmp_path / "runs")], {}, max_line_bytes=1 << 20)
    ledger.process(watch.poll(T0 + 60))
    assert len(ledger.engine.runs) == 1
    watch.close()
    ledger.close()


# --- lines that are no rows


def test_a_line_that_is_too_long_is_skipped_and_counted(tmp_path):
    (tmp_path / "runs").mkdir()
    world = World(tmp_path / "runs", max_line_bytes=500)
    long = line(10, 2.0, note="x" * 5000)
    world.append("x.jsonl", healthy(10) + long + healthy(10, 11))
    world.look()
    assert world.counts == {"line_too_long": 1}
    assert world.rows["x"] == 20
    world.the_neighbour_is_still_watched()


def test_a_line_without_end_that_is_too_long_does_not_stop_what_follows(tmp_path):
    (tmp_path / "runs").mkdir()
    world = World(tmp_path / "runs", max_line_bytes=500)
    world.append("x.jsonl", healthy(10))
    world.look()
    for _ in range(5):
        world.append("x.jsonl", b"y" * 1000)
        world.look()
    world.append("x.jsonl", b"\n" + healthy(10, 11))
    world.look()
    assert world.counts == {"line_too_long": 1}
    assert world.rows["x"] == 20


def test_half_a_utf8_character_spoils_its_own_line_only(world):
    world.append("x.jsonl", healthy(10) + b'{"step": 10, "loss": 2.0, "note": "\xc3"}\n' + healthy(10, 11))
    world.look()
    assert world.rows["x"] >= 20
    assert set(world.counts) <= {"not_a_record", "not_a_number"}
    world.the_neighbour_is_still_watched()


def test_a_character_cut_by_the_end_of_the_file_is_read_when_it_is_whole(world):
    whole = '{"step": 10, "loss": 2.0, "note": "é"}\n'.encode()
    world.append("x.jsonl", healthy(10) + whole[:-4])
    world.look()
    assert world.rows["x"] == 10
    world.append("x.jsonl", whole[-4:])
    world.look()
    assert world.rows["x"] == 11
    assert world.counts == {}


BAD_LINES = [
    b"{", b"}", b"null", b"[]", b"3", b'"x"', b'{"step": }', b'{"step": 1, "loss": 2.0', b"Traceback (most recent call last):",
    b"\x00\x01\x02", b"\xff\xfe", b"{" * 3000, b'{"a":' * 2000, b"[" * 3000, b'{"step": 1, "step": 2}', b"NaN", b"{}",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_LINES, ids=[ascii(b[:12]) for b in BAD_LINES])
def test_a_line_that_is_no_row_is_counted_and_the_rows_around_it_are_kept(world, bad):
    world.append("x.jsonl", healthy(30) + bad + b"\n" + healthy(30, 30))
    world.look()
    assert world.rows["x"] in (60, 61)
    assert sum(world.counts.values()) >= 1  # NUL bytes are counted besides
    world.the_neighbour_is_still_watched()


def test_steps_that_repeat_or_stand_still_are_rows_and_no_alarm(world):
    world.append("x.jsonl", b"".join(line(i // 4, x) for i, x in enumerate(falling(200).tolist())))
    world.look()
    world.append("x.jsonl", b"".join(line(50, x) for x in falling(50, start=200).tolist()))
    world.look()
    assert world.rows["x"] == 250
    assert world.pages("x") == []


def test_a_metric_that_turns_into_text_is_counted_and_the_other_metrics_are_kept(world):
    world.append("x.jsonl", b"".join(line(i, 2.0, acc=0.5) for i in range(30)))
    world.look()
    world.append("x.jsonl", b"".join(line(30 + i, 2.0, acc="unknown") for i in range(10)))
    world.look()
    assert world.counts == {"not_a_number": 10}
    assert world.rows["x"] == 40
    world.the_neighbour_is_still_watched()


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 1e308, 5e-324, "1e999", "-Infinity", True, None, [], {}, "0x10", "\u0661"]
)
def test_any_value_of_a_loss_is_a_number_or_counted(world, value):
    world.append("x.jsonl", healthy(30) + b"".join(line(30 + i, value, grad_norm=1.0) for i in range(5)))
    world.look()
    assert world.rows["x"] == 35
    world.the_neighbour_is_still_watched()


@pytest.mark.parametrize(
    "step", [10**18, 2**62, 2**63, 10**30, -1, -(10**18), 1.5, "12", "abc", None, True, float("inf")]
)
def test_any_step_is_kept_or_taken_for_none(world, step):
    world.append(
        "x.jsonl",
        healthy(30)
        + b"".join(line(0, 2.0).replace(b'"step": 0', b'"step": ' + json.dumps(step).encode()) for _ in range(5)),
    )
    world.look()
    assert world.rows["x"] == 35
    world.the_neighbour_is_still_watched()


@pytest.mark.parametrize(
    "t",
    [
        0,
        -1,
        1e18,
        1e30,
        1e300,
        -1e300,
        "2099-01-01T00:00:00",
        "yesterday",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+12:00",
        None,
        float("nan"),
        float("inf"),
    ],
)
def test_any_clock_is_kept_or_taken_for_none_and_the_page_can_be_told(tmp_path, t):
    (tmp_path / "runs").mkdir()
    world = World(tmp_path / "runs")
    rows = [{"step": i, "t": t, "loss": 2.0 if i < 30 else float("nan")} for i in range(40)]
    world.append("x.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
    world.look()
    world.append("x.jsonl", "".join(json.dumps(r | {"step": 50}) + "\n" for r in rows[30:]).encode())
    world.look()
    assert world.rows["x"] == 50
    mine = [x.incident for x in world.told if x.incident.run == "x"]
    assert mine
    for incident in mine:
        assert headline(incident)
        assert facts(incident)
    world.the_neighbour_is_still_watched()


def test_two_writers_in_one_file_are_read_without_a_crash(world):
    a = [line(i, x) for i, x in enumerate(falling(400).tolist())]
    b = [line(i, x) for i, x in enumerate(falling(400, seed=7).tolist())]
    mixed = [x for i in range(0, 400, 7) for x in (*a[i : i + 7], *b[i : i + 5])]
    world.append("x.jsonl", b"".join(mixed[:300]))
    world.look()
    world.append("x.jsonl", b"".join(mixed[300:]))
    world.look()
    assert world.rows["x"] == len(mixed)
    assert world.counts == {}
    assert Kind.NONFINITE not in world.pages("x")


def test_a_copy_of_a_file_is_a_run_of_its_own(world):
    world.path("a").mkdir()
    world.path("b").mkdir()
    for name in ("a/run.jsonl", "b/run.jsonl", "run.jsonl", "run.csv"):
        data = healthy(40) if name.endswith("l") else b"step,loss\n" + b"".join(b"%d,2.0\n" % i for i in range(40))
        world.append(name, data)
    world.look()
    assert sorted(world.rows.values()) == [40, 40, 40, 40, 100]


def test_a_file_of_nan_pages_once_and_never_breaks(world):
    world.append("x.jsonl", b'{"step": 0, "loss": NaN}\n')
    world.look()
    for i in range(1, 40):
        world.append("x.jsonl", b'{"step": %d, "loss": NaN, "grad_norm": NaN}\n' % i)
        world.look(1)
    assert world.pages("x") == [Kind.NONFINITE]


@pytest.mark.parametrize(
    "name", ["<!channel>", "a\nb", "*bold*", "a" * 240, "{{x}}", "%s%n", "`rm -rf`", " ", "-rf", "a#2"]
)
def test_any_file_name_is_a_run(world, name):
    world.append(f"{name}.jsonl", healthy(20))
    world.look()
    assert world.rows[name] == 20
    world.the_neighbour_is_still_watched()


def test_after_a_restart_the_first_look_is_at_all_files_before_anything_counts_as_silent(world, monkeypatch):
    monkeypatch.setattr(module, "MANY", 10)
    for n in range(40):
        world.append(f"r{n:02}.jsonl", healthy(30))
    world.look(12)
    for n in range(40):
        world.append(f"r{n:02}.jsonl", healthy(30, 30))
    world.look(12)
    cursors = {k: s.cursor().dumps() for k, s in world.watch._streams.items() if s.open}
    assert len(cursors) == 41
    for n in range(40):
        world.append(f"r{n:02}.jsonl", healthy(30, 60))
    world.watch.close()
    world.watch = Watch("files", [str(world.folder)], cursors, max_line_bytes=1 << 20)
    world.told.clear()
    world.now += 3600.0
    world.append("neighbour.jsonl", healthy(5, 100))
    world.look(12)
    assert {r: n for r, n in world.rows.items() if n != 90} == {"neighbour": 105}
    assert [t.incident.run for t in world.told if t.incident.kind is Kind.SILENCE] == []


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([healthy(3), b"step,loss\n1,2\n", b"\n", b"\r", *BAD_LINES])),
        max_size=12,
    ),
    st.data(),
)
def test_no_bytes_break_the_source_or_the_core(tmp_path_factory, pieces, data):
    folder = tmp_path_factory.mktemp("f")
    path = folder / "x.log"
    watch, core = Watch("files", [str(folder)], {}, max_line_bytes=200), Engine(Suite(), Book())
    start = data.draw(st.sampled_from([b"", healthy(3), b"step,loss\n1,2.5\n2,2.4\n", b"iter 1: loss 2.5, time 3ms\n"]))
    path.write_bytes(start)
    for n, piece in enumerate(pieces):
        core.step(watch.poll(T0 + 2 * n))
        with path.open("ab") as f:
            f.write(piece)
    core.step(watch.poll(T0 + 2 * len(pieces)))
    watch.close()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    ["step", "t", "loss", "grad_norm", "run", "time", "epoch", "iter", "mode", "total_steps", "lr", "max_steps", "date"]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(_KEYS | st.text(max_size=4), _JSON, max_size=5), min_size=1, max_size=10))
def test_no_json_breaks_the_source_the_core_or_the_store(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("j")
    (folder / "runs").mkdir()
    text = b'{"step": 1, "loss": 2.5}\n' + b"".join(json.dumps(r).encode() + b"\n" for r in records)
    (folder / "runs" / "x.jsonl").write_bytes(text)
    watch, ledger = Watch("files", [str(folder / "runs")], {}, max_line_bytes=1 << 16), opened(folder)
    try:
        ledger.process(watch.poll(T0))
    finally:
        watch.close()
        ledger.close()
    opened(folder).close()


# --- configuration, through the command


CONFIGS = {
    "misspelt key": ("sources: [{files: {paths: [/a], pol_s: 1}}]\nsinks: {terminal: {}}\n", ":1:33: unknown key 'pol_s'"),
    "wrong type": ("sources: [{files: {paths: [/a], poll_s: soon}}]\nsinks: {terminal: {}}\n", "must be a number, found text"),
    "duplicate key": ("sources: [{files: {paths: [/a]}}]\nsinks: {terminal: {}}\nsinks: {terminal: {}}\n", ":3:1: duplicate key 'sinks'"),
    "missing secret": ("sources: [{files: {paths: [/a]}}]\nsinks: {slack: {channel: C0123456789, token: {env: NOPE}}}\n", "NOPE"),
    "missing secret file": ("sources: [{files: {paths: [/a]}}]\nsinks: {slack: {channel: C0123456789, token: {file: /nowhere/x}}}\n", "/nowhere/x"),
    "control character": ("sources: [{files: {paths: [/a\x07]}}]\nsinks: {terminal: {}}\n", "U+0007"),
}  # fmt: skip


@pytest.mark.parametrize("what", CONFIGS)
def test_a_bad_config_stops_the_start_with_its_place(tmp_path, what):
    text, said = CONFIGS[what]
    (tmp_path / "c.yaml").write_text(text)
    for command in (["check", tmp_path / "c.yaml"], ["run", "--config", tmp_path / "c.yaml"]):
        done = shell(*command)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.symlink_to(p), fifo], ids=["folder", "loop", "fifo"])
def test_a_config_that_cannot_be_read_says_why_and_does_not_wait(tmp_path, make):
    make(tmp_path / "c.yaml")
    done = shell("check", tmp_path / "c.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "c.yaml" in done.stderr
    assert "Traceback" not in done.stderr


# --- the state


FULL = """
import resource, signal, sqlite3, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_ledger import opened, nan_batch, content, incidents
folder = Path(sys.argv[1])
ledger = opened(folder)
ledger.process(nan_batch(cursors={{"a": "0"}}, t_recv=1e9))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = (folder / "state.db-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + {room}, resource.RLIM_INFINITY))
b = nan_batch(cursors={{"a": "1"}}, lines=(), t_recv=1e9)
import dataclasses
b = dataclasses.replace(b, frames=tuple(dataclasses.replace(f, row=f.row + 300, run="full") for f in b.frames))
before = content(folder)
said = []
for _ in range(3):
    try:
        ledger.process(b)
        said.append("committed")
    except sqlite3.OperationalError as e:
        said.append(str(e))
assert content(folder) == before, "something of a failed commit stayed"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
step = ledger.process(b)
print(said, [t.incident.reason.value for t in step.transitions], len(content(folder)["incidents"]))
"""


@pytest.mark.parametrize("room", [0, 5000, 9000, 17000])
def test_a_full_disk_says_so_keeps_nothing_half_and_goes_on_when_there_is_space(tmp_path, room):
    program = FULL.format(tests=str(Path(__file__).parent), room=room)
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, reasons, incidents = (
        done.stdout[: done.stdout.index("]") + 1],
        done.stdout.split("] ")[1] + "]",
        done.stdout.split()[-1],
    )
    assert "committed" not in said
    assert "disk" in said
    assert "rollback" not in said
    assert (reasons, incidents) == ("['opened']", "2")


def test_a_damaged_state_stops_the_start_with_a_remedy(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").write_bytes(b"nonsense" * 1000)
    config = tmp_path / "c.yaml"
    config.write_text(
        f"state_dir: {tmp_path}/state\nsources: [{{files: {{paths: [{tmp_path}/runs]}}}}]\nsinks: {{terminal: {{}}}}\n"
        "web: {listen: null}\nmetrics: {listen: null}\n"
    )
    done = shell("run", "--config", config)
    assert done.returncode == 1
    assert "move it away" in done.stderr
    assert "Traceback" not in done.stderr


def descriptors() -> Sequence[str]:
    return [p.name for p in Path("/proc/self/fd").iterdir()]


def test_a_watcher_gives_all_descriptors_back(world):
    for n in range(30):
        world.append(f"r{n}.jsonl", healthy(5))
    world.look()
    world.watch.close()
    assert not [d for d in descriptors() if str(world.folder) in os.path.realpath(f"/proc/self/fd/{d}")]


def test_a_process_with_few_descriptors_still_watches_every_file(tmp_path):
    (tmp_path / "runs").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    world = World(tmp_path / "runs")
    for n in range(120):
        world.append(f"r{n}.jsonl", healthy(5))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(descriptors()) + 40, hard))
    try:
        world.look(8)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    world.look(8)
    assert {world.rows.get(f"r{n}") for n in range(120)} == {5}


def test_archives_beside_live_files_are_read_once(world):
    world.path("old.jsonl.gz").write_bytes(gzip.compress(healthy(30)))
    world.look(6)
    assert world.rows["old"] == 30

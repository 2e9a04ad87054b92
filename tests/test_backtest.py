"""A backtest says what would have paged: in the agreed form, the same however it is asked, true on recorded runs."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import pytest
from build import falling

from monitor.backtest import record, series_name
from monitor.cli import main
from monitor.cli.recorded import Rules, backtested

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "benchmarks" / "recordings"
TRUTH = json.loads((RECORDINGS / "truth.json").read_text()) if (RECORDINGS / "truth.json").exists() else []
CORPUS = ROOT.parent / "shared" / "corpus"

INTEGERS = {"attempt", "episode"}
PLACES = {f"{name}_{unit}" for name in ("first", "detected", "paged", "last") for unit in ("row", "step")}
TEXTS = {"series", "run", "incident", "kind", "severity", "reason"}
KEYS = TEXTS | INTEGERS | PLACES | {"metric", "metrics", "score"}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    return path


def run(n: int = 400, *, nan_from: int = 380, clock: bool = True, seed: int = 0) -> list[dict[str, object]]:
    loss = falling(n, seed=seed).tolist()
    rows: list[dict[str, object]] = [{"step": 10 * i, "loss": x} for i, x in enumerate(loss)]
    for r in rows[nan_from:]:
        r["loss"] = float("nan")
    if clock:
        for i, r in enumerate(rows):
            r["t"] = 1.7e9 + i
    return rows


def said(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, list[dict[str, Any]], str]:
    code = main(["backtest", "--format", "jsonl", "--jobs", "1", *map(str, args)])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def lines_of(path: Path) -> list[dict[str, Any]]:
    found = backtested(str(path), Rules())
    assert not isinstance(found, str), found
    return [record(found.series, incident) for incident in found.incidents]


def test_every_line_has_the_agreed_keys_and_types(tmp_path, capsys):
    code, lines, _ = said(capsys, write(tmp_path / "a.jsonl", run()))
    assert code == 0
    (line,) = lines
    assert set(line) == KEYS
    assert all(type(line[k]) is str for k in TEXTS)
    assert all(type(line[k]) is int for k in INTEGERS)
    assert all(line[k] is None or type(line[k]) is int for k in PLACES)
    assert type(line["metrics"]) is list
    assert line["score"] is None or type(line["score"]) is float


def test_a_nan_at_the_end_is_one_open_page_with_exact_places(tmp_path, capsys):
    _, (line,), _ = said(capsys, write(tmp_path / "a.jsonl", run()))
    places = {k: line[k] for k in PLACES}
    assert places == {
        "first_row": 380, "first_step": 3800, "detected_row": 380, "detected_step": 3800, "paged_row": 380,
        "paged_step": 3800, "last_row": None, "last_step": None,
    }  # fmt: skip
    assert (line["kind"], line["severity"], line["metric"], line["series"]) == ("nonfinite", "page", "loss", "a")


def test_a_log_without_steps_has_rows_and_no_steps(tmp_path, capsys):
    rows = run()
    for r in rows:
        del r["step"]
    _, (line,), _ = said(capsys, write(tmp_path / "a.jsonl", rows))
    assert (line["first_row"], line["first_step"], line["paged_step"]) == (380, None, None)


def test_a_notice_has_no_place_at_which_it_paged(tmp_path, capsys):
    rows = run(nan_from=400)
    rows[250]["loss"] = 30.0
    _, lines, _ = said(capsys, write(tmp_path / "a.jsonl", rows))
    assert [(x["severity"], x["paged_row"], x["last_row"]) for x in lines] == [("notice", None, 250)]


def test_old_recordings_page_for_a_backtest_knows_no_history(tmp_path, capsys):
    rows = run()
    for i, r in enumerate(rows):
        r["t"] = 1e9 + i
    _, lines, _ = said(capsys, write(tmp_path / "a.jsonl", rows))
    assert [x["severity"] for x in lines] == ["page"]


def test_a_clean_file_gives_no_line(tmp_path, capsys):
    assert said(capsys, write(tmp_path / "a.jsonl", run(nan_from=400)))[:2] == (0, [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(5):
        write(tmp_path / f"run-{n}.jsonl{'.gz' * (n % 2)}", run(nan_from=300 + n, seed=n, clock=n != 3))
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "run-1.jsonl", run(nan_from=350, seed=9))
    return tmp_path


def test_lines_are_sorted_by_series(folder, capsys):
    _, lines, _ = said(capsys, folder)
    keys = [(x["series"], x["run"], x["first_row"], x["episode"]) for x in lines]
    assert keys == sorted(keys)
    assert [k[0] for k in keys] == ["run-0", "run-1", "run-1", "run-2", "run-3", "run-4"]


def test_any_order_of_files_and_any_number_of_jobs_give_the_same_bytes(folder):
    files = sorted(str(p) for p in folder.rglob("*.jsonl*"))
    shuffled = random.Random(1).sample(files, len(files))
    command = [sys.executable, "-m", "monitor", "backtest", "--format", "jsonl"]
    ways = [[*files, "--jobs", "1"], [*shuffled, "--jobs", "3"], [str(folder), "--jobs", "2"], [*files, *files]]
    outputs = {subprocess.run([*command, *way], capture_output=True, check=True).stdout for way in ways}
    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == 6


def test_a_file_says_the_same_in_company_as_alone(folder, capsys):
    _, together, _ = said(capsys, folder)
    alone = [said(capsys, f)[1] for f in sorted(folder.rglob("*.jsonl*"))]
    key = lambda x: json.dumps(x, sort_keys=True)  # noqa: E731
    assert sorted(map(key, together)) == sorted(key(x) for lines in alone for x in lines)


def test_the_table_counts_what_the_lines_say(folder, capsys):
    assert main(["backtest", "--jobs", "1", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "6 files read: 2,400 rows in " in out
    assert out.splitlines()[-2:] == ["6 pages (6 nonfinite)", "0 notices"]
    assert out.splitlines()[0] == "would have paged:"


def test_what_cannot_be_read_is_said_and_the_rest_is_still_read(folder, capsys):
    (folder / "binary.jsonl").write_bytes(bytes(range(256)) * 20)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"step": 1, "loss": 2}\n' * 5000)[:60])
    code, lines, err = said(capsys, folder, folder / "missing.jsonl")
    assert code == 0
    assert len(lines) == 6
    for name in ("binary.jsonl", "cut.jsonl.gz", "missing.jsonl"):
        assert name in err


@pytest.mark.parametrize("content", [None, b"", b"hello\n" * 100, b"\x00" * 100])
def test_where_nothing_could_be_read_the_exit_code_is_2_and_no_line_is_printed(tmp_path, capsys, content):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    code, lines, err = said(capsys, path)
    assert (code, lines) == (2, [])
    assert "x.jsonl" in err


@pytest.mark.parametrize("bad", ["detection: {max_page_age: 3}", "nonsense"])
def test_a_bad_config_is_exit_code_2(tmp_path, capsys, bad):
    (tmp_path / "c.yaml").write_text(bad)
    code, lines, err = said(capsys, "--config", tmp_path / "c.yaml", write(tmp_path / "a.jsonl", run()))
    assert (code, lines) == (2, [])
    assert "c.yaml" in err


@pytest.mark.parametrize("jobs", ["0", "-3"])
def test_fewer_jobs_than_one_are_wrong_use(tmp_path, capsys, jobs):
    with pytest.raises(SystemExit) as ended:
        main(["backtest", "--format", "jsonl", "--jobs", jobs, str(write(tmp_path / "a.jsonl", run()))])
    assert ended.value.code == 2
    assert "at least 1" in capsys.readouterr().err


def test_each_episode_is_said_once(tmp_path, capsys):
    rows = run(1200, nan_from=1200)
    for start in (300, 340, 500, 900):
        for r in rows[start : start + 5]:
            r["loss"] = float("nan")
    _, lines, _ = said(capsys, write(tmp_path / "a.jsonl", rows))
    episodes = [(x["incident"], x["episode"]) for x in lines]
    assert len(set(episodes)) == len(episodes)
    assert [x["first_row"] for x in lines] == [300, 340, 500, 900]


def test_the_table_is_a_line_for_each_episode_pages_first_and_tells_files_of_one_name_apart(tmp_path, capsys):
    write(tmp_path / "a.jsonl", run())
    write(tmp_path / "a.jsonl.gz", run())
    write(tmp_path / "b.jsonl", run(nan_from=400))
    assert main(["backtest", "--jobs", "1", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["run", "kind", "metric", "step", "severity", "paged", "why"]
    assert [line.split()[:7] for line in lines[3:5]] == [
        ["a.jsonl", "nonfinite", "loss", "3800…", "page", "at", "3800"],
        ["a.jsonl.gz", "nonfinite", "loss", "3800…", "page", "at", "3800"],
    ]
    assert len({line.index("nonfinite") for line in lines[3:5]}) == 1


def test_the_configuration_gives_its_line_patterns_and_line_length_and_says_so(tmp_path, capsys):
    losses = falling(400).tolist()
    lines = [f"round {i}; badness={'nan' if i >= 380 else x}" for i, x in enumerate(losses)]
    lines[100] += " " + "x" * 3000
    (tmp_path / "odd.log").write_text("\n".join(lines) + "\n")
    (tmp_path / "c.yaml").write_text(
        "sources: [{files: {paths: [/runs], max_line_bytes: 2048, patterns: [{name: ours,"
        " regex: 'round (?P<step>\\d+); badness=(?P<loss>\\S+)'}]}}]\n"
        "sinks: {slack: {channel: C0123456789, token: {env: NO_SUCH_TOKEN}}}\n"
    )
    assert said(capsys, tmp_path / "odd.log")[0] == 2
    code, (line,), err = said(capsys, tmp_path / "odd.log", "--config", tmp_path / "c.yaml")
    assert (code, line["kind"], line["first_step"]) == (0, "nonfinite", 380)
    assert "c.yaml: pages up to 6 h old, lines up to 2,048 bytes, 1 line pattern(s)" in err
    found = backtested(
        str(tmp_path / "odd.log"), Rules(max_line_bytes=2048, regexes=(r"(?P<step>\d+); badness=(?P<loss>\S+)",))
    )
    assert not isinstance(found, str)
    assert found.rows == 399


# --- the corpus scorer


@pytest.mark.skipif(not (CORPUS / "score.py").exists(), reason="the labelled corpus is not beside this checkout")
def test_the_output_is_what_the_scorer_of_the_corpus_reads(tmp_path):
    names = sorted((CORPUS / "series").glob("*.jsonl.gz"))[:6]
    lines = [line for path in names for line in lines_of(path)]
    assert lines
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = subprocess.run(
        [sys.executable, CORPUS / "score.py", tmp_path / "d.jsonl", CORPUS, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["other"]["unknown_series"] == 0


# --- recorded runs with known faults

FAMILIES = (
    {"loss_spike", "divergence", "nonfinite", "grad_blowup"},
    {"throughput_drop", "data_stall"},
)
FOUND = {kind for family in FAMILIES for kind in family}
EVENTS = [
    pytest.param(t, e, id=f"{t['file']}-{e['kind']}-{e['first_step']}")
    for t in TRUTH
    for e in t["events"]
    if e["primary"] and e["kind"] in FOUND
]
CLEAN = [pytest.param(t, id=t["file"]) for t in TRUTH if t["clean"]]
TOLERANCE_STEPS = 20


@cache
def told(file: str) -> list[dict[str, Any]]:
    return lines_of(RECORDINGS / file)


def overlaps(line: dict[str, Any], event: dict[str, Any]) -> bool:
    first = line["first_step"] if line["first_step"] is not None else line["first_row"]
    ended = line["last_step"] if line["last_step"] is not None else line["last_row"]
    last = 1 << 62 if ended is None else ended
    begins, ends = event["first_step"], event["last_step"] or 1 << 62
    return first <= ends + TOLERANCE_STEPS and last >= begins - TOLERANCE_STEPS


@pytest.mark.parametrize(("recording", "event"), EVENTS)
def test_the_faults_of_a_recorded_run_are_found(recording, event):
    if not (RECORDINGS / recording["file"]).exists():
        pytest.skip("not in this checkout")
    family = next(f for f in FAMILIES if event["kind"] in f)
    mine = [x for x in told(recording["file"]) if x["kind"] in family and overlaps(x, event)]
    assert mine, told(recording["file"])


@pytest.mark.parametrize("recording", CLEAN)
def test_a_recorded_run_in_which_nothing_went_wrong_pages_nobody(recording):
    if not (RECORDINGS / recording["file"]).exists():
        pytest.skip("not in this checkout")
    # Where the machine itself was slower by a tenth or more, a page on the speed is right.
    slow = [*recording["disturbances"], *recording["planned"]]
    paged = [
        x
        for x in told(recording["file"])
        if x["severity"] == "page" and not (x["kind"] in FAMILIES[1] and any(overlaps(x, s) for s in slow))
    ]
    assert [(x["kind"], x["metric"], x["first_step"], x["paged_step"], x["reason"]) for x in paged] == []


@pytest.mark.skipif(not TRUTH, reason="no recordings in this checkout")
def test_the_recordings_cover_both_families_and_clean_runs():
    kinds = {p.values[1]["kind"] for p in EVENTS}
    assert all(family & kinds for family in FAMILIES)
    assert len(CLEAN) >= 5


def test_a_recording_reads_the_same_packed_and_unpacked(tmp_path, capsys):
    source = write(tmp_path / "a.jsonl.gz", run())
    with gzip.open(source, "rb") as packed, (tmp_path / "b.jsonl").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    _, a, _ = said(capsys, source)
    _, b, _ = said(capsys, tmp_path / "b.jsonl")
    ignored = ("series", "run", "incident")
    assert [{k: v for k, v in x.items() if k not in ignored} for x in a] == [
        {k: v for k, v in x.items() if k not in ignored} for x in b
    ]


@pytest.mark.parametrize(
    ("name", "series"),
    [("a.jsonl", "a"), ("a.jsonl.gz", "a"), ("a.b.csv", "a.b"), ("a.LOG", "a"), ("a", "a"), ("a.bin.gz", "a.bin")],
)
def test_a_series_is_named_after_its_file(name, series):
    assert series_name(PurePath("/x", name)) == series

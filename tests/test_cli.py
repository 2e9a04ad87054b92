"""The commands as a shell sees them: exit codes, what goes to which stream, and the help."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from build import falling

from monitor import __version__
from monitor.cli import main

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "benchmarks" / "recordings"
COMMANDS = ["watch", "run", "check", "inspect", "backtest", "incidents", "test-page", "demo", "version"]
INCIDENTS = ["list", "show", "evidence", "ack", "resolve", "verdict"]
TEXTS = {
    "jsonl": "02-clean-102.jsonl.gz",
    "csv": "02-clean-102.csv.gz",
    "nanogpt": "04-clean-104.nanogpt.log.gz",
    "megatron": "05-clean-105.megatron.log.gz",
    "titan": "06-clean-106.titan.log.gz",
    "tqdm": "07-clean-107.tqdm.log.gz",
}


def shell(*args: object, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The program as a process of its own, without this process's keys."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR")} | (environ or {})
    command = [sys.executable, "-m", "monitor", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT, env=kept)


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """The program in this process: exit code, standard output, standard error."""
    try:
        code = main([str(a) for a in args])
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    "args", [["--help"], *([c, "--help"] for c in COMMANDS), *(["incidents", v, "-h"] for v in INCIDENTS)]
)
def test_every_command_has_a_help_on_standard_output(capsys, args):
    code, out, err = call(capsys, *args)
    assert (code, err) == (0, "")
    assert out.startswith("usage: runwarden")


def test_the_help_names_every_command_and_the_exit_codes(capsys):
    _, out, _ = call(capsys, "--help")
    assert all(f"    {command}" in out for command in COMMANDS)
    assert "Exit codes" in out


@pytest.mark.parametrize(
    "args",
    [
        [], ["watc"], ["run"], ["check"], ["watch"], ["backtest"], ["inspect"], ["incidents"], ["incidents", "explode"],
        ["incidents", "ack"], ["incidents", "verdict", "x", "maybe"], ["backtest", "x", "--jobs", "many"],
        ["backtest", "x", "--format", "xml"], ["version", "--loud"],
    ],
)  # fmt: skip
def test_wrong_use_is_exit_code_2_and_says_how_to_use_it(capsys, args):
    code, out, err = call(capsys, *args)
    assert (code, out) == (2, "")
    assert "usage: runwarden" in err


def test_the_version_is_printed(capsys):
    assert call(capsys, "version") == (0, f"{__version__}\n", "")


# --- inspect


@pytest.mark.parametrize("form", TEXTS)
def test_inspect_knows_every_text_format(capsys, form):
    path = RECORDINGS / TEXTS[form]
    if not path.exists():
        pytest.skip("not in this checkout")
    code, out, err = call(capsys, "inspect", path)
    assert (code, err) == (0, "")
    first, *_ = out.splitlines()
    assert f": {form}," in first or form in ("titan", "tqdm", "megatron", "nanogpt")
    assert "loss" in out


@pytest.mark.parametrize("form", TEXTS)
def test_the_rows_of_every_text_format_are_json_on_standard_output(capsys, form):
    path = RECORDINGS / TEXTS[form]
    if not path.exists():
        pytest.skip("not in this checkout")
    code, out, err = call(capsys, "inspect", "--rows", path)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) >= 900
    assert all({"run", "step", "t"} <= set(r) for r in rows)
    assert [r["step"] for r in rows if r["step"] is not None] == sorted(
        r["step"] for r in rows if r["step"] is not None
    )


def strict(text: str) -> object:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_rows_with_nan_can_be_told_from_rows_without(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": Infinity}\n'
    )
    _, out, _ = call(capsys, "inspect", "--rows", tmp_path / "a.jsonl")
    values = [json.loads(line)["loss"] for line in out.splitlines()]
    assert values[0] == 2.0
    assert values[1] != 2.0
    assert len(values) == 3


def test_backtest_lines_are_strict_json(tmp_path, capsys):
    rows = [{"step": i, "loss": x} for i, x in enumerate(falling(300).tolist())]
    rows[280]["loss"] = float("inf")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    code, out, _ = call(capsys, "backtest", "--format", "jsonl", tmp_path / "a.jsonl")
    assert code == 0
    assert [strict(line) for line in out.splitlines()]


@pytest.mark.parametrize("content", [None, b"", b"\x00\x01\x02" * 100, b"once upon a time\n" * 50])
def test_inspect_of_what_is_no_log_says_why(tmp_path, capsys, content):
    path = tmp_path / "x.log"
    if content is not None:
        path.write_bytes(content)
    for more in ([], ["--rows"]):
        code, out, err = call(capsys, "inspect", path, *more)
        assert (code, out) == (2, "")
        assert "x.log" in err
        assert err.count("\n") == 1


def test_inspect_of_a_folder_says_that_it_is_one(tmp_path, capsys):
    code, _, err = call(capsys, "inspect", tmp_path)
    assert code == 2
    assert "is not a regular file" in err or "directory" in err.lower()


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text("".join(f'{{"step": {i}, "loss": 2.5}}\n' for i in range(50_000)))
    for command in (["inspect", "--rows", path], ["backtest", "--format", "jsonl", path]):
        writer = subprocess.Popen(
            [sys.executable, "-m", "monitor", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        assert writer.stdout is not None
        assert writer.stderr is not None
        if command[0] == "inspect":
            assert writer.stdout.readline()
        writer.stdout.close()
        assert writer.stderr.read() == b""
        writer.stderr.close()
        assert writer.wait(60) in (0, 141)


# --- check


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_good(path):
    keys = {"SLACK_BOT_TOKEN": "xoxb-1", "ANTHROPIC_API_KEY": "sk-1", "WANDB_API_KEY": "w-1"}
    done = shell("check", path, environ=keys)
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout


def test_a_secret_that_is_missing_is_named_and_never_guessed():
    done = shell("check", ROOT / "config" / "minimal.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "SLACK_BOT_TOKEN" in done.stderr


def test_check_reports_every_problem_with_its_place(tmp_path):
    bad = tmp_path / "c.yaml"
    bad.write_text(
        "sources: [{files: {paths: [/a], pol_s: 1}}]\nsinks: {terminal: {}}\nsinks: {}\nstore: {max_gib: much}\n"
    )
    done = shell("check", bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{bad}:1:33: unknown key 'pol_s'" in done.stderr
    assert f"{bad}:3:1: duplicate key 'sinks'" in done.stderr
    assert f"{bad}:4:18: store.max_gib must be a number" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_config_that_is_not_there_is_exit_code_2(tmp_path, command):
    args = [tmp_path / "none.yaml"] if command == "check" else ["--config", tmp_path / "none.yaml"]
    done = shell(command, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.yaml" in done.stderr
    assert "Traceback" not in done.stderr


# --- watch, incidents, test-page


def test_watch_of_a_missing_path_is_exit_code_2(tmp_path, capsys):
    code, out, err = call(capsys, "watch", tmp_path, tmp_path / "none")
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'none'}: no such file or folder" in err


@pytest.mark.parametrize("verb", [["list"], ["show", "x"], ["evidence", "x"]])
def test_without_state_the_reading_verbs_say_where_they_looked(tmp_path, capsys, verb):
    code, out, err = call(capsys, "incidents", "--state-dir", tmp_path, *verb)
    assert (code, out) == (2, "")
    assert str(tmp_path / "state.db") in err


@pytest.mark.parametrize("verb", [["ack", "x"], ["resolve", "x"], ["verdict", "x", "real"]])
def test_without_a_daemon_the_changing_verbs_say_so(tmp_path, capsys, verb):
    code, out, err = call(capsys, "incidents", "--state-dir", tmp_path, *verb)
    assert (code, out) == (1, "")
    assert "no daemon answers" in err


def test_a_state_that_is_no_database_is_said_not_thrown(tmp_path, capsys):
    (tmp_path / "state.db").write_bytes(b"nonsense" * 1000)
    code, out, err = call(capsys, "incidents", "--state-dir", tmp_path, "list")
    assert code == 1
    assert "cannot be read" in err
    assert "{" not in out


def test_live_without_its_keys_is_wrong_use_and_starts_nothing():
    done = shell("demo", environ={"LIVE": "1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "ANTHROPIC_API_KEY, SLACK_BOT_TOKEN, SLACK_CHANNEL" in done.stderr


def test_commands_that_need_no_heavy_library_load_none(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    program = (
        "import sys; from monitor.cli import main; main(['inspect', sys.argv[1]]);"
        "print([m for m in ('anthropic', 'slack_sdk', 'sklearn', 'PIL') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.jsonl"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.stderr.strip() == "[]"


def test_an_archive_that_is_cut_is_said_after_what_could_be_read(tmp_path, capsys):
    data = gzip.compress("".join(f'{{"step": {i}, "loss": {2 + i % 7}}}\n' for i in range(20_000)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    code, _, err = call(capsys, "inspect", "--rows", tmp_path / "a.jsonl.gz")
    assert code == 2
    assert "Compressed file ended" in err

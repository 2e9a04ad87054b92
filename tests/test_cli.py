"""The commands as a shell sees them: exit codes, what goes to which stream, and the help."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import socket
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
    name, what, *_ = out.splitlines()
    assert name == str(path)
    assert what.startswith(f"{form}, " if form in ("jsonl", "csv") else "text, ")
    assert "\n  loss            " in out


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


def test_inspect_of_a_folder_is_a_line_for_each_file_and_says_what_was_not_read(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 2.0, "grad_norm": 1}\n' * 3)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.csv").write_text("step,lr\n1,0.1\n2,0.1\n")
    (tmp_path / "notes.txt").write_text("once upon a time\n" * 9)
    code, out, err = call(capsys, "inspect", tmp_path)
    assert code == 0
    assert out.splitlines() == [
        f"{tmp_path}/a.jsonl: jsonl, 3 rows; loss, grad norm",
        f"{tmp_path}/sub/b.csv: csv, 2 rows; learning rate",
        "",
        "2 of 3 files hold metrics; `runwarden inspect FILE` shows one in full",
    ]
    assert "notes.txt: no training metrics" in err


def test_inspect_of_several_files_prints_the_rows_of_all(tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    code, out, _ = call(capsys, "inspect", "--rows", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert (code, [json.loads(line)["run"] for line in out.splitlines()]) == (0, ["a", "b"])


def test_inspect_of_an_empty_folder_says_so(tmp_path, capsys):
    code, out, err = call(capsys, "inspect", tmp_path)
    assert (code, out) == (2, "")
    assert "no files in there" in err


def test_inspect_says_what_cannot_be_seen_for_want_of_a_column(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 2.0, "foo": 1}\n' * 3)
    _, out, _ = call(capsys, "inspect", tmp_path / "a.jsonl")
    assert "not watched (1): foo" in out
    for text in ("no gradient norm", "no step time and no throughput", "no data time", "no clock"):
        assert f"  {text}: " in out
    assert "no loss:" not in out
    assert "no step:" not in out


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
    assert done.returncode == 0
    assert all(": warning: " in line for line in done.stderr.splitlines())
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


def configured(folder: Path, **parts: str) -> Path:
    path = folder / "c.yaml"
    usual = {
        "state_dir": f"{folder}/state", "sources": f"[{{files: {{paths: [{folder}]}}}}]", "sinks": "{terminal: {}}",
        "web": "{listen: null}", "metrics": "{listen: null}",
    }  # fmt: skip
    path.write_text("".join(f"{k}: {v}\n" for k, v in (usual | parts).items()))
    return path


def test_a_configuration_that_fits_this_machine_has_no_warning(tmp_path, capsys):
    path = configured(tmp_path)
    assert call(capsys, "check", path) == (0, f"{path}: good\n", "")


@pytest.mark.parametrize(
    ("parts", "place", "text"),
    [
        ({"sources": "[{files: {paths: [/no/such/run]}}]"}, "2:28", "/no/such/run is not there; check the path"),
        ({"sources": "[{files: {paths: ['/no/such/*.jsonl']}}]"}, "2:28", "/no/such is not there, so"),
        ({"state_dir": "/etc/passwd"}, "1:12", "state_dir /etc/passwd is no folder; make it"),
        ({"control": "{group: no-such-group-here}"}, "6:18", "the group no-such-group-here does not exist; make it"),
        ({"control": "{socket: /no/such/c.sock}"}, "6:19", "its folder /no/such is no folder; make it"),
        ({"web": "{listen: '127.0.0.1:9'}", "metrics": "{listen: '127.0.0.1:9'}"}, "5:19", "is web.listen as well"),
    ],
)
def test_check_warns_of_what_this_machine_lacks_and_stays_good(tmp_path, capsys, parts, place, text):
    path = configured(tmp_path, **parts)
    code, out, err = call(capsys, "check", path)
    assert code == 0
    assert ": good, " in out
    assert any(line.startswith(f"{path}:{place}: warning: ") and text in line for line in err.splitlines()), err


def test_check_warns_of_a_port_that_is_taken(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        _, out, err = call(capsys, "check", configured(tmp_path, web=f"{{listen: '{address}'}}"))
    assert f":4:15: warning: {address} is taken by another program; choose another port" in err
    assert out.endswith("good, 1 warning\n")


def test_check_warns_of_what_this_user_may_not_use(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    _, _, err = call(capsys, "check", configured(tmp_path))
    assert f"state_dir {tmp_path}/state cannot be made by " in err
    assert f"{tmp_path} cannot be read; let " in err


# --- watch, incidents, test-page


def test_watch_of_a_missing_path_is_exit_code_2(tmp_path, capsys):
    code, out, err = call(capsys, "watch", tmp_path, tmp_path / "none")
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'none'}: no such file or folder" in err


@pytest.mark.parametrize("verb", [["list"], ["show", "x"], ["evidence", "x"]])
@pytest.mark.parametrize("after", [True, False])
def test_the_state_folder_may_be_named_before_and_after_the_verb(tmp_path, capsys, verb, after):
    place = ["--state-dir", tmp_path]
    code, _, err = call(capsys, "incidents", *([*verb, *place] if after else [*place, *verb]))
    assert code == 2
    assert str(tmp_path / "state.db") in err


def test_the_state_is_found_by_the_configuration_without_its_secrets(tmp_path, capsys):
    path = configured(tmp_path, sinks="{slack: {channel: C0123456789, token: {env: NO_SUCH_TOKEN}}}")
    code, _, err = call(capsys, "incidents", "list", "--config", path)
    assert code == 2
    assert f"{tmp_path}/state/state.db: no state here" in err
    code, _, err = call(capsys, "incidents", "--config", path, "ack", "x")
    assert code == 1
    assert f"no daemon answers on {tmp_path}/state/control.sock (No such file or directory)" in err


def test_a_test_page_without_a_daemon_goes_directly_to_the_sinks_of_the_configuration(tmp_path, capsys):
    code, out, err = call(capsys, "test-page", "--config", configured(tmp_path))
    assert code == 0
    assert "this is a test page of Runwarden" in out
    assert out.splitlines()[-2:] == [
        "terminal: posted a test page", "terminal: edited it to resolved and answered in its thread"
    ]  # fmt: skip
    assert "no daemon answers on " in err


def test_a_test_page_of_a_sink_that_cannot_be_reached_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "xoxb-1")
    slack = "{slack: {channel: C0123456789, token: {env: A_TOKEN}, base_url: 'http://127.0.0.1:9/'}}"
    code, out, _ = call(capsys, "test-page", "--config", configured(tmp_path, sinks=slack))
    assert code == 1
    assert "slack: FAILED: " in out


def test_a_test_page_of_a_named_daemon_never_goes_elsewhere(tmp_path, capsys):
    code, out, err = call(capsys, "test-page", "--state-dir", tmp_path)
    assert (code, out) == (1, "")
    assert "no daemon answers" in err


@pytest.mark.parametrize("command", ["watch", "inspect", "backtest"])
def test_an_empty_path_is_not_the_working_folder(capsys, command):
    code, out, err = call(capsys, command, "")
    assert (code, out) == (2, "")
    assert "is empty" in err


@pytest.mark.parametrize("command", ["inspect", "backtest", "watch"])
def test_a_loop_of_links_or_a_name_too_long_is_said_not_thrown(tmp_path, capsys, command):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path / ("x" * 300)):
        code, _, err = call(capsys, command, path)
        assert code == 2
        assert "runwarden: " in err


def test_very_many_files_that_are_no_logs_are_counted(tmp_path, capsys):
    for n in range(30):
        (tmp_path / f"{n}.txt").write_text("hello\n")
    (tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    for command in (["inspect"], ["backtest", "--jobs", "1"]):
        code, _, err = call(capsys, *command, tmp_path)
        assert code == 0
        assert err.splitlines()[-1] == "runwarden: and 10 more that could not be read"
        assert len(err.splitlines()) == 21


def test_names_of_strangers_cannot_paint_the_terminal(tmp_path, capsys):
    name = os.fsencode(tmp_path) + b"/odd\xff\x1b[31m.jsonl"
    Path(os.fsdecode(name)).write_text('{"step": 1, "loss": 2.0, "x\\u001b[2J": 1}\n' * 3)
    for paths in ([tmp_path], [os.fsdecode(name)]):
        code, out, err = call(capsys, "inspect", *paths)
        assert (code, err) == (0, "")
        assert "\x1b" not in out
        assert "odd" in out


@pytest.mark.parametrize("shut", [">&-", ">&- 2>&- <&-", ">/dev/full", "| head -1", "2>/dev/full >/dev/full"])
def test_an_output_that_is_closed_full_or_gone_gives_no_traceback(tmp_path, shut):
    (tmp_path / "a.jsonl").write_text('{"step": 1, "loss": 2.0}\n' * 3)
    for command in ("--help", f"inspect {tmp_path}/a.jsonl", f"inspect --rows {tmp_path}/a.jsonl"):
        line = f"{shlex.quote(sys.executable)} -m monitor {command} {shut}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        if "--help" not in command:  # argparse swallows it
            assert done.returncode == (1 if "full" in shut else 0)


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

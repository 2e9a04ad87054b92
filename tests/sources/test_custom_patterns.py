"""Lines that no known trainer writes are read by the user's own expressions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from log_rig import rows_of, same, watching

from monitor.cli import main
from monitor.config import ConfigError, load
from monitor.expression import Expression
from monitor.sources.files import only_patterns, with_patterns
from monitor.sources.files.source import Watch
from monitor.sources.files.textline import read_number

GOLDEN = Path(__file__).parents[1] / "golden" / "custom_pattern"
REGEX = (
    r"^\[(?P<t>[^\]]+)\] it (?P<step>[\d,]+) of (?P<total>\d+) (?:loss (?P<loss>\S+))?(?: gnorm (?P<grad_norm>\S+))?"
)


def test_the_golden_log_becomes_the_golden_rows() -> None:
    parser = with_patterns([REGEX])["text"].make({})
    parsed = parser.feed((GOLDEN / "train.log").read_bytes().splitlines(), 0)
    same(rows_of([parsed]), [json.loads(line) for line in (GOLDEN / "rows.jsonl").read_text().splitlines()])
    assert [text for _, text in parsed.lines] == ["loading data", "[2026-05-05 10:00:03] checkpoint written"]
    assert parsed.totals == {None: 500}


def test_an_expression_is_tried_before_the_known_trainers() -> None:
    line = b"iter 5: loss 2.5, time 10.00ms"
    theirs = with_patterns([])["text"].make({}).feed([line], 0)
    ours = with_patterns([r"iter (?P<step>\d+): loss (?P<mine>[\d.]+)"])["text"].make({}).feed([line], 0)
    assert theirs.pieces[0].columns == ("loss", "time_ms")
    assert ours.pieces[0].columns == ("mine",)
    assert not only_patterns([r"nothing (?P<x>\d)"])["text"].recognise([line])


@pytest.mark.parametrize(
    ("regex", "said"),
    [
        (r"(?P<loss>\d", "missing )"),
        (r"(?<=x)(?P<loss>\d)", "no look-around and no back-references"),
        (r"(?P<loss>\d)\1", "no look-around and no back-references"),
        (r"(?P<step>\d+) (\d)", "names no metric"),
        ("(?P<loss>" + "x" * 4_000 + ")", "at most 4000"),
    ],
)
def test_what_cannot_be_compiled_is_an_error_of_the_config_with_its_place(
    tmp_path: Path, regex: str, said: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "sources:\n  - files:\n      paths: [/runs]\n      patterns:\n        - name: ours\n"
        f"          regex: '{regex}'\nsinks: {{terminal: {{}}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (6, 18)
    assert problem.message.startswith("sources[0].files.patterns[0].regex ")
    assert said in problem.message


def test_two_patterns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    one = "{name: a, regex: 'x (?P<y>.)'}"
    path.write_text(f"sources: [{{files: {{paths: [/r], patterns: [{one}, {one}]}}}}]\nsinks: {{terminal: {{}}}}\n")
    with pytest.raises(ConfigError, match="has two patterns named 'a'"):
        load(path, {})


def test_an_expression_that_stalls_other_engines_answers_at_once() -> None:
    assert Expression(r"(?P<x>(a|aa|a)+)+$").groups("a" * 20_000 + "!") is None


def test_a_watched_log_is_read_by_the_configured_expressions(tmp_path: Path) -> None:
    (tmp_path / "odd.log").write_text("@1 2.5\n@2 2.25\n")
    formats = with_patterns([r"^@(?P<step>\d+) (?P<loss>\S+)"])
    with watching(tmp_path) as rig:
        rig.watch.close()
        rig.watch = Watch("files", rig.roots, {}, max_line_bytes=1 << 20, formats=formats)
        rig.poll()
        assert [(r["step"], r["values"]) for r in rig.seen] == [(1, {"loss": 2.5}), (2, {"loss": 2.25})]
        rig.watch = Watch("files", rig.roots, rig.cursors, max_line_bytes=1 << 20, formats=formats)
        with (tmp_path / "odd.log").open("a") as file:
            file.write("@3 2.0\n")
        assert [r["step"] for r in rig.poll()] == [3]


def test_inspect_tries_an_expression_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = GOLDEN / "train.log"
    assert main(["inspect", str(log), "--pattern", REGEX, "--rows"]) == 0
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == [1, 2, 1000]
    assert main(["inspect", str(log), "--pattern", REGEX]) == 0
    assert "grad_norm" in capsys.readouterr().out
    assert main(["inspect", str(log), "--pattern", "(?P<x>"]) == 2
    assert "the pattern is not RE2: " in capsys.readouterr().err
    assert main(["inspect", str(log), "--pattern", r"nothing (?P<x>\d)"]) == 2


@pytest.mark.parametrize(
    ("regex", "said"),
    [
        (r"nothing (?P<x>\d)", "no line matches the pattern"),
        (r"loss=(?P<loss>\S+)", "matches, first line 2, but no group that names a metric holds a number"),
    ],
)
def test_inspect_says_why_an_expression_sees_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, regex: str, said: str
) -> None:
    log = tmp_path / "odd.log"
    log.write_text("hello\nit 1 loss=2,5 acc=12%\n")
    assert main(["inspect", str(log), "--pattern", regex]) == 2
    assert said in capsys.readouterr().err


def test_a_group_that_is_no_number_is_counted_and_the_rest_of_the_row_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "odd.log"
    log.write_text("it 1 loss=2.5 acc=12%\n")
    assert main(["inspect", str(log), "--pattern", r"it (?P<step>\d+) loss=(?P<loss>\S+) acc=(?P<acc>\S+)"]) == 0
    assert "not a number: 1, first in line 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "wanted"), [("1,234", 1234.0), ("2,5", None), ("12,3456", None), ("-1,000.5", -1000.5)]
)
def test_a_comma_stands_between_thousands_and_nowhere_else(text: str, wanted: float | None) -> None:
    assert read_number(text) == wanted

"""The configuration: what is wrong is said with its place and its remedy; no secret is ever said."""
# ruff: noqa: E501  messages stand here exactly as they are printed

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from monitor.config import Config, ConfigError, SourceItem, default, json_schema, load
from monitor.yamlfile import MAX_PROBLEMS, section_of

ROOT = Path(__file__).parents[1]
ENVIRON = {
    "SLACK_BOT_TOKEN": "xoxb-0-secret",
    "ANTHROPIC_API_KEY": "sk-secret",
    "WANDB_API_KEY": "w-secret",
    "HOME": "/home/ada",
}
GOOD = "sources:\n  - files: {paths: [/runs]}\nsinks: {terminal: {}}\n"


def problems(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(path, ENVIRON if environ is None else environ)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).split("\n")]


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load(path, ENVIRON if environ is None else environ)


LEAVES = [
    ("misspelt key", "analysis: {hold: 5}", "c.yaml:4:12: unknown key 'hold' in analysis; allowed: claude, hold_s, timeout_s; did you mean 'hold_s'?"),
    ("key unlike any other", "store: {qqq: 5}", "c.yaml:4:9: unknown key 'qqq' in store; allowed: max_gib, retain_days"),
    ("misspelt section", "anlysis: {}", "c.yaml:4:1: unknown key 'anlysis' in the top level; allowed: analysis, control, detection, log, metrics, sinks, sources, state_dir, store, web; did you mean 'analysis'?"),
    ("text for a number", "analysis: {hold_s: 60s}", "c.yaml:4:20: analysis.hold_s must be a number, found text"),
    ("quoted number", 'analysis: {hold_s: "60"}', "c.yaml:4:20: analysis.hold_s must be a number, found text"),
    ("clock time is text, not base 60", "analysis: {hold_s: 0:01:00}", "c.yaml:4:20: analysis.hold_s must be a number, found text"),
    ("truth for a number", "analysis: {hold_s: true}", "c.yaml:4:20: analysis.hold_s must be a number, found true or false"),
    ("list for a number", "analysis: {hold_s: [1]}", "c.yaml:4:12: analysis.hold_s must be a number, found a list"),
    ("nothing for a number", "analysis: {hold_s: }", "c.yaml:4:19: analysis.hold_s must be a number, found nothing"),
    ("infinity", "analysis: {hold_s: .inf}", "c.yaml:4:20: analysis.hold_s must be a finite number, found NaN or infinity"),
    ("negative", "analysis: {hold_s: -1}", "c.yaml:4:20: analysis.hold_s must be greater than or equal to 0"),
    ("scalar for a section", "analysis: 60", "c.yaml:4:11: analysis must be a mapping of keys, found a number"),
    ("number of 6000 digits", "store: {max_gib: " + "9" * 6000 + "}", "c.yaml:4:18: a number of 6000 digits; at most 18 are read"),
    ("duplicate key", "web: {listen: 127.0.0.1:1, listen: 127.0.0.1:2}", "c.yaml:4:28: duplicate key 'listen'; line 4 has it already"),
    ("duplicate section", "sinks: {}", "c.yaml:4:1: duplicate key 'sinks'; line 3 has it already"),
    ("unknown word", "log: {format: jsn}", "c.yaml:4:15: log.format has an unknown value; allowed: console, json; did you mean 'json'?"),
    ("status page for everybody", "web: {listen: 0.0.0.0:80}", "c.yaml:4:15: web.listen must be a loopback address such as 127.0.0.1: the status page asks nobody who they are"),
    ("status page by a host name", "web: {listen: monitor.example.com:80}", "c.yaml:4:15: web.listen must be a loopback address such as 127.0.0.1: the status page asks nobody who they are"),
    ("port alone", "metrics: {listen: 9877}", "c.yaml:4:19: metrics.listen must be text, found a number"),
    ("no port", "metrics: {listen: 127.0.0.1}", "c.yaml:4:19: metrics.listen must be HOST:PORT such as 127.0.0.1:9878 or [::1]:9878"),
    ("port too large", "metrics: {listen: 127.0.0.1:65536}", "c.yaml:4:19: metrics.listen must have a port between 0 and 65535"),
    ("parent folder", "state_dir: /a/../b", "c.yaml:4:12: state_dir must be a path without '..'"),
    ("number for a path", "state_dir: 3", "c.yaml:4:12: state_dir must be a path, found a number"),
    ("socket path too long", "control: {socket: /" + "s" * 107 + "}", "c.yaml:1:1: the top level has a control.socket path longer than 107 bytes; set control.socket or state_dir"),
    ("list as a key", "? [a]\n: b", "c.yaml:4:3: a key must be a word"),
    ("tab", "web:\n\tlisten: x", "c.yaml:5:1: not valid YAML: while scanning for the next token: found character '\\t' that cannot start any token; indent with spaces, not with tabs"),
    ("second document", "---\na: 1", "c.yaml:4:1: not valid YAML: expected a single document in the stream: but found another document"),
    ("tag", "web: !!python/object:os.system {}", "c.yaml:4:6: not valid YAML: tags (!name) are not supported"),
    ("anchor", "web: &a {}", "c.yaml:4:6: not valid YAML: anchors (&name) are not supported"),
    ("alias", "web: *a", "c.yaml:4:6: not valid YAML: aliases (*name) are not supported"),
    ("deep nesting", "web: " + "[" * 3000, "c.yaml:4:55: not valid YAML: nested more than 50 levels deep"),
    ("control character", "web: {listen: \x07}", "c.yaml:4:15: the character U+0007 is not allowed in YAML"),
    ("model without key", "analysis: {claude: }", "c.yaml:4:19: missing key 'api_key' in analysis.claude"),
    ("plain http", "analysis: {claude: {api_key: {env: ANTHROPIC_API_KEY}, base_url: 'http://a.example'}}", "c.yaml:4:66: analysis.claude.base_url must begin with https:// (http is allowed to this machine only)"),
    ("cloud metadata", "analysis: {claude: {api_key: {env: ANTHROPIC_API_KEY}, base_url: 'https://169.254.169.254/'}}", "c.yaml:4:66: analysis.claude.base_url must not lead to a link-local or cloud metadata address"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in LEAVES], ids=[case[0] for case in LEAVES])
def test_one_wrong_thing_gives_one_problem_at_its_place(tmp_path, text, expected):
    assert [expected] == problems(tmp_path, GOOD + text + "\n")


WHOLE = [
    ("no sources", "sinks: {terminal: {}}", "c.yaml:1:1: missing key 'sources' in the top level"),
    ("no sinks", "sources: [{files: {paths: [/a]}}]", "c.yaml:1:1: missing key 'sinks' in the top level"),
    ("empty list of sources", "sources: []\nsinks: {terminal: {}}", "c.yaml:1:1: sources must have at least 1 item"),
    ("sinks without one", "sources: [{files: {paths: [/a]}}]\nsinks: {}", "c.yaml:2:1: sinks must name at least one; allowed: terminal, slack"),
    ("source without a kind", "sources: [{}]\nsinks: {terminal: {}}", "c.yaml:1:11: sources[0] must have exactly one kind; allowed: files, otlp, prometheus, remote_write, trackio, wandb"),
    ("unknown kind of source", "sources: [{file: {paths: [/a]}}]\nsinks: {terminal: {}}", "c.yaml:1:12: unknown key 'file' in sources[0]; allowed: files, otlp, prometheus, remote_write, trackio, wandb; did you mean 'files'?"),
    ("mapping for a list", "sources: {files: {paths: [/a]}}\nsinks: {terminal: {}}", "c.yaml:1:1: sources must be a list, found a mapping"),
    ("text for a list", "sources: [{files: {paths: /a}}]\nsinks: {terminal: {}}", "c.yaml:1:27: sources[0].files.paths must be a list, found text"),
    ("two sources of one name", "sources: [{files: {paths: [/a]}}, {files: {paths: [/b]}}]\nsinks: {terminal: {}}", "c.yaml:1:1: the top level has two sources named 'files'; give one of them another `name`"),
    ("expression for a selector", "sources: [{prometheus: {url: 'https://p.example', queries: [{query: 'sum(loss)'}]}}]\nsinks: {terminal: {}}", "c.yaml:1:69: sources[0].prometheus.queries[0].query String should match pattern '^([a-zA-Z_:][a-zA-Z0-9_:]*(\\{.*\\})?|\\{.+\\})$'"),
    ("expression that is none", "sources: [{wandb: {entity: a, project: b, api_key: {env: WANDB_API_KEY}, runs: '('}}]\nsinks: {terminal: {}}", "c.yaml:1:80: sources[0].wandb.runs is not RE2 (which has no look-around and no back-references)"),
    ("polls too often", "sources: [{wandb: {entity: a, project: b, api_key: {env: WANDB_API_KEY}, poll_s: 1}}]\nsinks: {terminal: {}}", "c.yaml:1:82: sources[0].wandb.poll_s must be greater than or equal to 15"),
    ("secret in the clear", "sources: [{prometheus: {url: 'http://p.example', token: {env: SLACK_BOT_TOKEN}, queries: [{query: loss}]}}]\nsinks: {terminal: {}}", "c.yaml:1:12: sources[0].prometheus must have a url with https:// to send a token or a password"),
    ("receiver for everyone without a token", "sources: [{remote_write: {listen: '0.0.0.0:9879', queries: [{query: loss}]}}]\nsinks: {terminal: {}}", "c.yaml:1:12: sources[0].remote_write must have a token to listen on an address that others can reach"),
    ("receiver of an expression that is none", "sources: [{remote_write: {queries: [{query: 'loss{job=~\"(\"}'}]}}]\nsinks: {terminal: {}}", "c.yaml:1:12: sources[0].remote_write has the query 'loss{job=~\"(\"}', which is not RE2: missing ): ("),
    ("user without password", "sources: [{prometheus: {url: 'https://p.example', username: ada, queries: [{query: loss}]}}]\nsinks: {terminal: {}}", "c.yaml:1:12: sources[0].prometheus must have both username and password, or none"),
    ("two credentials", "sources: [{prometheus: {url: 'https://p.example', username: ada, password: {env: SLACK_BOT_TOKEN}, token: {env: SLACK_BOT_TOKEN}, queries: [{query: loss}]}}]\nsinks: {terminal: {}}", "c.yaml:1:12: sources[0].prometheus has a token and a username; keep one of them"),
    ("channel by its name", "sources: [{files: {paths: [/a]}}]\nsinks: {slack: {channel: '#ops', token: {env: SLACK_BOT_TOKEN}}}", "c.yaml:2:26: sinks.slack.channel must be a channel id such as C0123456789 (channel details in Slack, at the bottom), not a #name"),
    ("list at the top", "- a", "c.yaml:1:1: the top level must be a mapping of keys, found a list"),
    ("word at the top", "hello", "c.yaml:1:1: the top level must be a mapping of keys, found text"),
    ("nothing", "", "c.yaml: is empty; config/minimal.yaml shows the least that works"),
    ("only a comment", "# later\n", "c.yaml: is empty; config/minimal.yaml shows the least that works"),
    ("UTF-16", GOOD.encode("utf-16"), "c.yaml: is UTF-16 or UTF-32; save it as UTF-8"),
    ("Latin-1", "# a\nä: 1".encode("latin-1"), "c.yaml:2:1: is not UTF-8 from here on; save it as UTF-8"),
    ("binary", b"\x7fELF\0\0", "c.yaml: is a binary file, not YAML"),
    ("too large", b"#" * (1 << 20) + b"#", "c.yaml: is larger than 1048576 bytes; is this the right file?"),
    ("data instead of a configuration", "\n".join(f"- {i}" for i in range(10_000)), "c.yaml:10000:3: not valid YAML: more than 10000 keys and values; is this the right file?"),
    ("unclosed bracket", "sources: [", "c.yaml:1:11: not valid YAML: while parsing a flow node: expected the node content, but found '<stream end>'"),
    ("billion laughs", "a: &a [x, x]\nb: &b [*a, *a]\n", "c.yaml:1:4: not valid YAML: anchors (&name) are not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_a_file_that_cannot_be_a_configuration_says_why(tmp_path, text, expected):
    assert [expected] == problems(tmp_path, text)


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path):
    text = "sinks: {slack: {chanel: C01}}\nsources:\n  - files: {paths: [], poll_s: fast}\nweb: {listen: nowhere}\nweb: {}\n"
    assert problems(tmp_path, text) == [
        "c.yaml:1:9: missing key 'channel' in sinks.slack",
        "c.yaml:1:9: missing key 'token' in sinks.slack",
        "c.yaml:1:17: unknown key 'chanel' in sinks.slack; allowed: base_url, channel, timeout_s, token; did you mean 'channel'?",
        "c.yaml:3:13: sources[0].files.paths must have at least 1 item",
        "c.yaml:3:32: sources[0].files.poll_s must be a number, found text",
        "c.yaml:4:15: web.listen must be HOST:PORT such as 127.0.0.1:9878 or [::1]:9878",
        "c.yaml:5:1: duplicate key 'web'; line 4 has it already",
    ]


def test_the_number_of_problems_is_bounded_and_what_is_left_out_is_counted(tmp_path):
    lines = problems(tmp_path, GOOD + "".join(f"k{i}: 1\n" for i in range(MAX_PROBLEMS + 7)))
    assert (len(lines), lines[-1]) == (MAX_PROBLEMS + 1, "… and 7 more")


def test_a_path_that_is_no_readable_file_says_why(tmp_path, monkeypatch):
    def said(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        return str(caught.value).removeprefix(str(tmp_path))

    assert said(tmp_path / "none.yaml") == "/none.yaml: cannot be read: No such file or directory; check the path"
    assert said(tmp_path) == ": is a directory; name the file in it"
    assert said(Path("/dev/null")) == "/dev/null: cannot be read: Not a regular file"

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("monitor.yamlfile.os.open", refuse)
    assert said(tmp_path / "c.yaml") == (
        "/c.yaml: cannot be read: Permission denied; the user who runs this must be able to read it"
    )


def slack(token: str) -> str:
    return "sources: [{files: {paths: [/a]}}]\nsinks:\n  slack:\n    channel: C012\n    token: " + token


SECRETS = [
    ("inline", "xoxb-1-abc", "must name where the secret is, not hold it; allowed: {env: NAME}, {file: PATH}, {credential: NAME}"),
    ("two places", "{env: A, file: xoxb-1-abc}", "must name where the secret is, not hold it; allowed: {env: NAME}, {file: PATH}, {credential: NAME}"),
    ("unknown place", "{value: xoxb-1-abc}", "must name where the secret is, not hold it; allowed: {env: NAME}, {file: PATH}, {credential: NAME}"),
    ("inline in a list", "[xoxb-1-abc]", "must name where the secret is, not hold it; allowed: {env: NAME}, {file: PATH}, {credential: NAME}"),
    ("secret as the name of a variable", "{env: xoxb-1-abc}", "is missing: the environment variable named here is not set; set it, or use {file: PATH} or {credential: NAME}"),
    ("variable not set", "{env: NO_TOKEN}", "is missing: the environment variable NO_TOKEN is not set; set it, or use {file: PATH} or {credential: NAME}"),
    ("secret as the name of a file", "{file: xoxb-1-abc}", "is missing: the file named here cannot be read: No such file or directory; check the path and who may read it"),
    ("no such file", "{file: /no/such}", "is missing: the file /no/such cannot be read: No such file or directory; check the path and who may read it"),
    ("directory", "{file: /}", "is missing: the file / cannot be read: Is a directory; check the path and who may read it"),
    ("no credentials", "{credential: xoxb-1-abc}", "is missing: $CREDENTIALS_DIRECTORY is not set; run under systemd with LoadCredential=NAME:PATH, or use {env: NAME} or {file: PATH}"),
    ("credential that climbs", "{credential: ../xoxb-1-abc}", "must name a credential with letters, digits and _.- only"),
    ("two lines", "{env: TWO}", "leads to something that is not one word of printable ASCII"),
]  # fmt: skip


@pytest.mark.parametrize(("token", "expected"), [case[1:] for case in SECRETS], ids=[case[0] for case in SECRETS])
def test_a_secret_that_is_inline_or_missing_is_refused_without_printing_it(tmp_path, token, expected):
    (said,) = problems(tmp_path, slack(token), {"TWO": "xoxb-1-abc\nb"})
    place, _, message = said.partition(": ")
    assert message == f"sinks.slack.token {expected}"
    assert place in {"c.yaml:5:5", "c.yaml:5:12"}
    assert "xoxb" not in said


def test_a_secret_is_read_from_variable_file_or_credential_and_does_not_show(tmp_path):
    (tmp_path / "token").write_text("xoxb-1-abc\n")
    environ = {"T": "xoxb-1-abc", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for name in ("{env: T}", "{file: token}", f"{{file: {tmp_path}/token}}", "{credential: token}"):
        config = loaded(tmp_path, slack(name), environ)
        assert config.sinks.slack is not None
        assert config.sinks.slack.token.get_secret_value() == "xoxb-1-abc"
        assert "xoxb" not in repr(config) + str(config) + config.model_dump_json()


def test_a_credential_that_systemd_did_not_load_says_what_the_unit_lacks(tmp_path):
    (said,) = problems(tmp_path, slack("{credential: nope}"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert said == (
        "c.yaml:5:5: sinks.slack.token is missing: the credential named here cannot be read: No such file or directory; "
        "add LoadCredential=NAME:PATH to the unit"
    )


def test_an_empty_or_huge_secret_file_is_refused(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "huge").write_text("x" * 70_000)
    assert problems(tmp_path, slack("{file: empty}")) == [
        "c.yaml:5:5: sinks.slack.token is missing: the file named here is empty"
    ]
    assert problems(tmp_path, slack("{file: huge}")) == [
        "c.yaml:5:5: sinks.slack.token leads to something that is not one word of printable ASCII"
    ]


def test_numbers_are_read_as_people_write_them(tmp_path):
    config = loaded(
        tmp_path, GOOD + "analysis: {hold_s: 1e-3, timeout_s: 2E+1}\nstore: {max_gib: .5, retain_days: 7}\n"
    )
    assert (config.analysis.hold_s, config.analysis.timeout_s) == (0.001, 20.0)
    assert (config.store.max_gib, config.store.retain_days) == (0.5, 7)


def test_a_byte_order_mark_and_carriage_returns_do_not_matter(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load(path, {}) == loaded(tmp_path, GOOD)


def test_a_section_with_nothing_below_it_means_its_defaults(tmp_path):
    config = loaded(tmp_path, "sources: [{files: {paths: [/a]}}]\nsinks:\n  terminal:\nanalysis:\nlog:\n")
    assert config.sinks.terminal is not None
    assert config.analysis == Config.model_fields["analysis"].default


def test_listening_is_turned_off_by_null_and_metrics_may_be_reachable(tmp_path):
    config = loaded(tmp_path, GOOD + "web: {listen: null}\nmetrics: {listen: '[::]:9877'}\n")
    assert (config.web.listen, config.metrics.listen) == (None, "[::]:9877")


def test_paths_are_taken_from_the_folder_of_the_file_and_from_the_home(tmp_path):
    text = "state_dir: state\nsources: [{files: {paths: [runs/*.log, ~/x, /y]}}]\nsinks: {terminal: {}}\n"
    config = loaded(tmp_path, text)
    assert config.state_dir == tmp_path / "state"
    assert config.sources[0].files is not None
    assert config.sources[0].files.paths == (f"{tmp_path}/runs/*.log", "/home/ada/x", "/y")
    assert config.control_socket == tmp_path / "state" / "control.sock"


def test_the_state_folder_is_the_one_systemd_made_unless_the_file_names_one(tmp_path):
    environ = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}
    assert loaded(tmp_path, GOOD, environ).state_dir == Path("/var/lib/a")
    assert loaded(tmp_path, GOOD + "state_dir: /c\n", environ).state_dir == Path("/c")
    assert loaded(tmp_path, GOOD, {}).state_dir == Path("/var/lib/runwarden")


def test_sources_know_their_kind_and_name(tmp_path):
    config = loaded(tmp_path, "sources: [{files: {paths: [/a], name: lab}}]\nsinks: {terminal: {}}\n")
    assert (config.sources[0].kind, config.sources[0].section.name) == ("files", "lab")


def test_a_configuration_cannot_change(tmp_path):
    with pytest.raises(ValueError, match="frozen"):
        loaded(tmp_path, GOOD).analysis.hold_s = 1.0  # type: ignore[misc]


def test_watching_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = default(["b.jsonl", "a/*.log"], {"HOME": "/home/ada"})
    assert config.sources[0].files is not None
    assert config.sources[0].files.paths == (f"{tmp_path}/a/*.log", f"{tmp_path}/b.jsonl")
    assert config.sinks.terminal is not None
    assert config.sinks.slack is None
    assert config.state_dir.parent == Path("/home/ada/.local/state/runwarden")
    assert (config.web.listen, config.metrics.listen) == ("127.0.0.1:0", None)


def test_two_watches_share_their_state_exactly_if_they_watch_the_same_paths():
    environ = {"XDG_STATE_HOME": "/state", "HOME": "/home/ada"}
    assert default(["/a", "/b"], environ).state_dir == default(["/b", "/a", "/a/../a"], environ).state_dir
    assert default(["/a"], environ).state_dir != default(["/a", "/b"], environ).state_dir
    assert default(["/a"], environ).state_dir.parent == Path("/state/runwarden")


def test_watching_uses_slack_if_the_environment_names_token_and_channel():
    config = default(["/a"], {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_CHANNEL": "C012"})
    assert config.sinks.slack is not None
    assert config.sinks.slack.token.get_secret_value() == "xoxb-1"
    assert default(["/a"], {"SLACK_BOT_TOKEN": "xoxb-1"}).sinks.slack is None
    with pytest.raises(ConfigError, match=r"command line and environment: sinks\.slack\.channel must be a channel id"):
        default(["/a"], {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_CHANNEL": "#ops"})


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_loads(path):
    load(path, ENVIRON)


def test_the_minimal_example_is_about_ten_lines():
    assert len((ROOT / "config/minimal.yaml").read_text().splitlines()) <= 10


def unset(section: BaseModel, where: str = "") -> list[str]:
    names = []
    fields = section.model_fields_set if isinstance(section, SourceItem) else type(section).model_fields
    for name in fields:
        value = getattr(section, name)
        names += [] if name in section.model_fields_set else [where + name]
        for item in value if isinstance(value, tuple) else (value,):
            names += unset(item, f"{where}{name}.") if isinstance(item, BaseModel) else []
    return names


def test_the_full_example_has_every_key_and_states_the_true_defaults():
    config = load(ROOT / "config/runwarden.example.yaml", ENVIRON)
    assert unset(config) == []
    for name, field in Config.model_fields.items():
        if isinstance(field.default, BaseModel):
            value = getattr(config, name)
            assert field.default == (value.model_copy(update={"claude": None}) if name == "analysis" else value)


def test_every_key_has_a_description():
    def undescribed(model: type[BaseModel]) -> list[str]:
        names = []
        for name, field in model.model_fields.items():
            inner = section_of(field.annotation)
            names += undescribed(inner) if inner else []
            names += [] if field.description or (inner and inner.__doc__) else [f"{model.__name__}.{name}"]
        return names

    assert undescribed(Config) == []


def test_the_schema_in_the_repository_is_the_one_of_the_code():
    assert (ROOT / "config/schema.json").read_text() == json_schema()
    token = json.loads(json_schema())["$defs"]["sinks__slack__Params"]["properties"]["token"]
    assert token["$ref"] == "#/$defs/SecretName"


def test_loading_a_configuration_imports_no_heavy_library():
    heavy = "{'aiohttp', 'anthropic', 'slack_sdk', 'sklearn', 'PIL', 'prometheus_client'}"
    code = f"import sys, monitor.config; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text("{}[]:,-?&*!|>'\"%@` \n\tab01.e#~<", max_size=120).map(str.encode)))
def test_no_bytes_make_loading_fail_in_any_other_way(tmp_path, data):
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        load(path, {})

"""What a Slack double recorded becomes one HTML page that looks like the channel, for people who judge pages by eye.

It knows the blocks that a sink may post, shows the thread below its message, light or dark. Everything is escaped, the
page asks nothing of the network, and an unknown block is an error. Bounds: a picture is cut at HEIGHT pixels.

Run alone: `python tests/blockkit.py RECORDED.json OUT [--dark]` writes OUT.html and, with Chromium, OUT.png. RECORDED:
{"messages": [message, …], "replies": {ts: [message, …]}, "files": {id: {"name": …, "png": base64}}}.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT, MARGIN, COLOURS = 800, 4000, 16, 96
LIMIT_S = 60.0

Node = Mapping[str, Any]
Files = Mapping[str, Mapping[str, str]]


class UnknownBlock(ValueError):  # noqa: N818  (what it is, not what went wrong)
    """A block or element that our sink was not known to post."""


def render(recorded: Mapping[str, Any], *, dark: bool = False) -> str:
    """The channel as one HTML page. Raises UnknownBlock."""
    files: Files = recorded.get("files", {})
    shown = [
        _message(message, files) + _thread(recorded.get("replies", {}).get(message["ts"], ()), files)
        for message in recorded["messages"]
    ]
    return _PAGE.format(theme="dark" if dark else "light", style=_STYLE, body="\n".join(shown))


def picture(html: str, png: Path) -> bool:
    """Photograph a page with Chromium, cut to what is on it, in few colours; False where there is no Chromium."""
    if not CHROMIUM.exists():
        return False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "page.html").write_text(html, encoding="utf-8")
        command = [
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={folder / 'page.png'}",
            (folder / "page.html").as_uri(),
        ]
        subprocess.run(command, check=True, timeout=LIMIT_S, capture_output=True)
        with Image.open(folder / "page.png") as photo:
            _trim(photo.convert("RGB")).save(png, optimize=True)
    return True


def _trim(photo: Image.Image) -> Image.Image:
    """Without the empty space at the foot, in at most COLOURS colours."""
    empty = Image.new("RGB", photo.size, photo.getpixel((photo.width - 1, photo.height - 1)))  # type: ignore[arg-type]
    box = ImageChops.difference(photo, empty).getbbox() or (0, 0, photo.width, 1)
    kept = photo.crop((0, 0, photo.width, min(photo.height, box[3] + MARGIN)))
    return kept.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


# --- messages


def _message(message: Node, files: Files) -> str:
    body = "".join(block(b, files) for b in message.get("blocks", ())) or _lines(message.get("text", ""))
    body += "".join(_picture(f["id"], f.get("title") or f.get("name", ""), files) for f in message.get("files", ()))
    at = datetime.fromtimestamp(float(message["ts"]), UTC).strftime("%H:%M")
    return (
        '<article><div class="face">R</div><div class="said">'
        f'<div class="who"><b>Runwarden</b><span class="app">APP</span><time>{at}</time></div>{body}</div></article>'
    )


def _thread(replies: Sequence[Node], files: Files) -> str:
    if not replies:
        return ""
    count = f"{len(replies)} repl{'y' if len(replies) == 1 else 'ies'}"
    return f'<section class="thread"><h2>{count}</h2>{"".join(_message(r, files) for r in replies)}</section>'


# --- blocks


def block(node: Node, files: Files) -> str:
    """One block as HTML. Raises UnknownBlock."""
    return _of(_BLOCKS, node)(node, files)


def _of(table: Mapping[str, Callable[..., str]], node: Node) -> Callable[..., str]:
    kind = str(node.get("type"))
    if kind not in table:
        raise UnknownBlock(kind)
    return table[kind]


def _header(node: Node, _: Files) -> str:
    return f'<h1 class="header">{escape(node["text"]["text"])}</h1>'


def _section(node: Node, _: Files) -> str:
    texts = [node["text"]] if "text" in node else []
    return f'<div class="section">{"<br>".join(_object(t) for t in (*texts, *node.get("fields", ())))}</div>'


def _context(node: Node, _: Files) -> str:
    return f'<div class="context">{" ".join(_object(e) for e in node["elements"])}</div>'


def _divider(_: Node, __: Files) -> str:
    return "<hr>"


def _image(node: Node, files: Files) -> str:
    return _picture(node["slack_file"]["id"], node["alt_text"], files)


def _actions(node: Node, _: Files) -> str:
    return f'<div class="actions">{"".join(_of({"button": _button}, e)(e) for e in node["elements"])}</div>'


def _rich_text(node: Node, _: Files) -> str:
    return "".join(_of(_RICH, element)(element) for element in node["elements"])


def _picture(file: str, alt: str, files: Files) -> str:
    """An uploaded picture; a frame with its alternative text where its bytes were not recorded."""
    png = files.get(file, {}).get("png")
    if png is None:
        return f'<div class="gone">{escape(alt)}</div>'
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{escape(png)}">'


# --- what blocks are made of


def _object(node: Node) -> str:
    """A text object; `mrkdwn` is shown as it was written, for our sink posts none."""
    if node["type"] not in {"plain_text", "mrkdwn"}:
        raise UnknownBlock(node["type"])
    return _lines(node["text"])


def _button(node: Node) -> str:
    style = node.get("style") if node.get("style") in {"primary", "danger"} else "plain"
    return f'<span class="button {style}">{escape(node["text"]["text"])}</span>'


def _flow(node: Node) -> str:
    return f"<div>{_inline(node)}</div>"


def _list(node: Node) -> str:
    tag = "ol" if node.get("style") == "ordered" else "ul"
    return f"<{tag}>{''.join(f'<li>{_inline(item)}</li>' for item in node['elements'])}</{tag}>"


def _preformatted(node: Node) -> str:
    return f"<pre>{_inline(node)}</pre>"


def _quote(node: Node) -> str:
    return f"<blockquote>{_inline(node)}</blockquote>"


def _inline(node: Node) -> str:
    return "".join(_of(_INLINE, element)(element) for element in node["elements"])


def _words(node: Node) -> str:
    """Text with its styles, line breaks as written."""
    said = _lines(node["text"])
    styles = node.get("style", {})
    if unknown := sorted(set(styles) - set(_TAGS)):
        raise UnknownBlock(f"style {unknown[0]}")
    for name, tag in _TAGS.items():
        if styles.get(name):
            said = f"<{tag}>{said}</{tag}>"
    return said


def _link(node: Node) -> str:
    url = str(node["url"])
    if not url.startswith(("http://", "https://")):
        raise UnknownBlock("link that is no web address")
    return f'<a href="{escape(url)}" rel="noreferrer">{escape(node.get("text") or url)}</a>'


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


_TAGS = {"code": "code", "bold": "b", "italic": "i", "strike": "s"}
_INLINE: Mapping[str, Callable[..., str]] = {"text": _words, "link": _link}
_RICH: Mapping[str, Callable[..., str]] = {
    "rich_text_section": _flow,
    "rich_text_list": _list,
    "rich_text_preformatted": _preformatted,
    "rich_text_quote": _quote,
}
_BLOCKS: Mapping[str, Callable[..., str]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "divider": _divider,
    "image": _image,
    "actions": _actions,
    "rich_text": _rich_text,
}

_PAGE = """\
<!doctype html>
<html lang="en" class="{theme}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Runwarden in Slack</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_STYLE = """
html { --paper: #fff; --ink: #1d1c1d; --faint: #616061; --line: #dddddd; --link: #1264a3; --code: #c01343;
  --sunk: #f6f6f6; --badge: #e8e8e8; }
html.dark { --paper: #1a1d21; --ink: #d1d2d3; --faint: #ababad; --line: #3b3d41; --link: #1d9bd1; --code: #e8912d;
  --sunk: #222529; --badge: #35373b; }
body { margin: 0; padding: 16px 20px; background: var(--paper); color: var(--ink);
  font: 15px/22px Lato, "Helvetica Neue", Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif; }
article { display: flex; gap: 10px; margin-bottom: 12px; }
.face { flex: none; width: 36px; height: 36px; border-radius: 6px; background: #b3261e; color: #fff;
  font: bold 20px/36px Arial, sans-serif; text-align: center; }
.said { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.said > * { margin: 0 0 8px; }
.who { margin: 0 0 2px; }
.app { margin: 0 6px; padding: 1px 3px; border-radius: 2px; background: var(--badge); color: var(--faint);
  font-size: 10px; font-weight: bold; line-height: 12px; vertical-align: 1px; }
time, .context { color: var(--faint); font-size: 12px; }
.header { font-size: 18px; line-height: 24px; font-weight: 900; }
h2 { margin: 0 0 8px; color: var(--link); font-size: 13px; line-height: 18px; }
hr { border: 0; border-top: 1px solid var(--line); }
img { display: block; max-width: 100%; max-height: 360px; border: 1px solid var(--line); border-radius: 8px; }
.gone { padding: 40px 16px; border: 1px dashed var(--line); border-radius: 8px; color: var(--faint); }
a { color: var(--link); text-decoration: none; }
ul, ol { padding-left: 26px; }
code, pre { padding: 2px 3px; border: 1px solid var(--line); border-radius: 3px; background: var(--sunk);
  color: var(--code); font: 12px/18px Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { padding: 8px; color: inherit; white-space: pre-wrap; }
blockquote { padding-left: 12px; border-left: 4px solid var(--line); }
.button { display: inline-block; margin-right: 8px; padding: 0 12px; border: 1px solid var(--line); border-radius: 4px;
  line-height: 28px; font-size: 13px; font-weight: bold; }
.primary { border-color: #007a5a; background: #007a5a; color: #fff; }
.danger { border-color: #e01e5a; color: #e01e5a; }
.thread { margin-left: 46px; padding-left: 14px; border-left: 2px solid var(--line); }
.thread .face { width: 24px; height: 24px; font-size: 14px; line-height: 24px; }
.thread img { max-height: 120px; }
"""


def main() -> None:
    """Write what was recorded as HTML and, where there is Chromium, as a PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recorded", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    html = render(json.loads(given.recorded.read_text(encoding="utf-8")), dark=given.dark)
    given.out.with_suffix(".html").write_text(html, encoding="utf-8")
    picture(html, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()

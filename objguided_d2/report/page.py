"""The page of a comparison: one HTML file that needs no network."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np

from ..utils.atomic_write import write_text
from .data_uri import jpeg_data_uri
from .error_kinds import KINDS
from .panels import legend_colors


@dataclass
class Figure:
    """A picture with what it shows.

    Attributes:
        title, caption: plain text.
        content: SVG text, or an RGB image.
        wide: takes the whole width of the page.
        description: for those who do not see it, where title and caption do not say what is in it.
    """

    title: str
    caption: str
    content: str | np.ndarray
    wide: bool = False
    description: str = ""


@dataclass
class Page:
    """What goes on the page.

    Attributes:
        title: of the page.
        introduction: a sentence or two, plain text.
        tables: (title, note, header, rows), plain text.
        figures: in their order.
        runs: names of the methods.
        images: see :func:`.viewer_data.viewer_image`.
        score_thresholds: of each method, in the viewer until its slider is moved.
    """

    title: str
    introduction: str
    runs: Sequence[str]
    score_thresholds: Sequence[float]
    tables: list[tuple[str, str, Sequence[str], Sequence[Sequence[str]]]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    images: list[dict] = field(default_factory=list)


def render(page: Page) -> str:
    """The HTML text."""
    data = {
        "runs": list(page.runs),
        "kinds": list(KINDS),
        "colors": legend_colors(),
        "truthColor": "#ffffff",
        "thresholds": list(page.score_thresholds),
        "images": page.images,
    }
    parts = {
        "title": html.escape(page.title),
        "introduction": html.escape(page.introduction),
        "tables": "\n".join(_table(*table) for table in page.tables),
        "figures": "\n".join(_figure(figure) for figure in page.figures),
        "run_toggles": "\n".join(_toggle("run", k, name) for k, name in enumerate(page.runs)),
        "kind_toggles": "\n".join(_toggle("kind", kind, kind, legend_colors()[kind]) for kind in KINDS),
        "sort_options": _sort_options(page.runs),
        "threshold": _shown_threshold(page.score_thresholds),
        # "</" would end the script element.
        "data": json.dumps(data, separators=(",", ":")).replace("</", "<\\/"),
        "script": _file("viewer.js"),
        "style": _file("page.css"),
    }
    text = _file("page.html")
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part, 1)
    return text


def _shown_threshold(thresholds: Sequence[float]) -> str:
    return f"{thresholds[0]:g}" if len(set(thresholds)) == 1 else "each method's own"


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _table(title: str, note: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "\n".join(
        # Where a narrow screen may break a long name.
        f'<tr><th scope="row">{html.escape(str(row[0])).replace("_", "_<wbr>")}</th>'
        + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<h3>{html.escape(title)}</h3>\n<p>{html.escape(note)}</p>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _figure(figure: Figure) -> str:
    alt = html.escape(figure.description or figure.title)
    if isinstance(figure.content, str):
        picture = figure.content.replace("<svg ", f'<svg role="img" aria-label="{alt}" ', 1)
    else:
        # Photographs as PNG would be most of the page.
        source = jpeg_data_uri(figure.content[..., ::-1], 90, full_color=True)
        height, width = figure.content.shape[:2]
        # With its size, an image that loads late does not push away what is being looked at.
        size = f'width="{width}" height="{height}"'
        picture = f'<img src="{source}" alt="{alt}" {size} loading="lazy">'
    wide = ' class="wide"' if figure.wide else ""
    return (
        f"<figure{wide}>{picture}<figcaption><b>{html.escape(figure.title)}.</b> "
        f"{html.escape(figure.caption)}</figcaption></figure>"
    )


def _toggle(kind: str, value: str | int, label: str, color: str | None = None) -> str:
    swatch = f'<span class="swatch" style="background:{color}"></span>' if color else ""
    return f'<label><input type="checkbox" data-{kind}="{value}" checked>{swatch}{html.escape(label)}</label>'


def _sort_options(runs: Sequence[str]) -> str:
    options = [
        ("disagreement:", "largest disagreement first"),
        ("objects:", "most objects first"),
        ("name:", "dataset's order"),
    ]
    for k, name in enumerate(runs):
        options += [(f"worst:{k}", f"{name}, worst first"), (f"best:{k}", f"{name}, best first")]
    return "\n".join(f'<option value="{value}">{html.escape(label)}</option>' for value, label in options)


def write_page(page: Page, path: Path) -> None:
    """Write the page so that ``path`` holds either its old content or all of the new."""
    write_text(path, render(page))


def markdown_tables(tables: Sequence[tuple[str, str, Sequence[str], Sequence[Sequence[str]]]]) -> str:
    """The same tables as Markdown."""
    blocks = []
    for title, note, header, rows in tables:
        lines = [" | ".join(map(_cell, row)) for row in (header, ["---"] * len(header), *rows)]
        blocks.append(f"## {title}\n\n{note}\n\n" + "\n".join(f"| {line} |" for line in lines))
    return "\n\n".join(blocks) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def as_mapping(tables: Sequence[tuple[str, str, Sequence[str], Sequence[Sequence[str]]]]) -> Mapping[str, list[dict]]:
    """The same tables for JSON: title -> rows by column."""
    return {title: [dict(zip(header, row)) for row in rows] for title, _, header, rows in tables}

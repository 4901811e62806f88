"""The page around a report: one file that loads nothing, readable in the dark, in the light, on a phone, on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import final

from sftlib.support.display import as_html


@final
@dataclass(frozen=True)
class Part:
    """A part of the report.

    Attributes:
        title: its heading.
        body: HTML; whoever makes it escapes what rows say.
        lead: a sentence under the heading.
    """

    title: str
    body: str
    lead: str = ""

    @property
    def anchor(self) -> str:
        """What links to it."""
        return "".join(character if character.isalnum() else "-" for character in self.title.lower())


def page(title: str, subtitle: str, parts: Sequence[Part]) -> str:
    """The whole file."""
    links = "".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in parts)
    sections = "".join(
        f'<section id="{part.anchor}"><h2>{escape(part.title)}</h2>'
        + (f'<p class="lead">{escape(part.lead)}</p>' if part.lead else "")
        + f"{part.body}</section>"
        for part in parts
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(subtitle)}</p><nav>{links}</nav></header>'
        f"<main>{sections}</main></body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, wide: bool = False) -> str:
    """A table whose every value is escaped; it scrolls by itself where it is too wide."""
    first = rows[0] if rows else [""] * len(header)
    head = "".join(f"<th{_aligned(value)}>{escape(name)}</th>" for name, value in zip(header, first, strict=True))
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table{" class=wide" if wide else ""}>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def tiles(values: Sequence[tuple[str, str, str]]) -> str:
    """Large numbers: name, value, and what stands under it."""
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(note)}</small></div>'
            for name, value, note in values
        )
        + "</div>"
    )


def beside(*drawings: str) -> str:
    """Drawings side by side where there is room."""
    return f'<div class="beside">{"".join(f"<figure>{drawing}</figure>" for drawing in drawings)}</div>'


def _cell(value: object) -> str:
    return f"<td{_aligned(value)}>{as_html(value)}</td>"


def _aligned(value: object) -> str:
    """Numbers stand on the right, and so does what is written above them."""
    return ' class="n"' if isinstance(value, int | float) and not isinstance(value, bool) else ""


_STYLE = """
:root{--ground:#fff;--ink:#1c2330;--soft:#5b6675;--line:#d8dee6;--card:#f5f7fa;--for:#1f6fb4;--against:#c8640a;
--good:#1f6fb4}
@media (prefers-color-scheme:dark){:root{--ground:#14181f;--ink:#e6eaf0;--soft:#9aa6b5;--line:#323b48;--card:#1c222c;
--for:#6db3f2;--against:#f5a25d;--good:#6db3f2}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
header,main{max-width:62rem;margin:0 auto;padding:1rem clamp(.8rem,3vw,2rem)}
h1{font-size:1.7rem;line-height:1.2;margin:1rem 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .4rem;padding-top:.6rem;border-top:1px solid var(--line)}
.lead{color:var(--soft);margin:.2rem 0 .8rem}
nav{display:flex;flex-wrap:wrap;gap:.2rem .9rem;font-size:.9rem}
a{color:var(--for)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:.8rem 0}
.tile{background:var(--card);border-radius:.6rem;padding:.7rem .9rem;display:flex;flex-direction:column}
.tile span,.tile small{color:var(--soft);font-size:.82rem}
.tile b{font-size:1.5rem;font-weight:650;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem;min-width:50%}
th,td{padding:.28rem .7rem .28rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
table.grid td{text-align:center;padding:.25rem .45rem;border:1px solid var(--ground);min-width:2.2rem}
table.grid thead th{text-align:center}
table.grid th{padding:.25rem .45rem;max-width:9rem;overflow:hidden;text-overflow:ellipsis}
table.sounds td{min-width:6rem}
table.sounds td:nth-child(2){min-width:20rem}
audio{width:100%;max-width:20rem;height:2.2rem;margin-top:.3rem}
.beside{display:flex;flex-wrap:wrap;gap:1rem}
figure{margin:0;flex:1 1 17rem;max-width:29rem}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:11px}
pre{background:var(--card);border-radius:.6rem;padding:.8rem;overflow-x:auto;font-size:.88rem}
.error{background:var(--card);border-radius:.6rem;padding:.7rem .9rem;margin:.7rem 0;overflow-wrap:anywhere}
.warn{border-left:4px solid var(--against);padding:.3rem .8rem;background:var(--card)}
@media print{body{font-size:10.5pt}header,main{max-width:none;padding:0}nav{display:none}
section,.error,figure,tr{break-inside:avoid}.scroll{overflow:visible}}
@page{size:A4;margin:16mm}
"""

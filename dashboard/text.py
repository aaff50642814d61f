"""Text of a database on its way to the page. Every word that a trial, a study or a file brought goes through here."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable

from nas.units import quantity

LONGEST = 300
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@/=^\"'])")
_PASSWORD = re.compile(r"(://[^/@]*?:)[^/@]*@")


def markdown(text: object, longest: int = LONGEST) -> str:
    """Text that Streamlit shows as it stands wherever it takes Markdown: no markup, link, image, icon or formula."""
    return _MARKDOWN.sub(r"\\\1", clipped(text, longest))


def plotly(text: object, longest: int = LONGEST) -> str:
    """Text that plotly shows as it stands in titles, labels and hover boxes: no tags, no `%{}`, no formula."""
    escaped = html.escape(clipped(text, longest), quote=True)
    return escaped.replace("%", "&#37;").replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def clipped(text: object, longest: int = LONGEST) -> str:
    """One line of printable characters, cut where it is too long."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def without_password(address: str) -> str:
    """A database address as it may be shown."""
    return _PASSWORD.sub(r"\1***@", address)


def file_name(text: str) -> str:
    """A study's name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80] or "study"


def ago(seconds: float) -> str:
    """How long ago something was: `just now`, `3 min ago`, `2 h ago`, `5 days ago`."""
    if seconds < 10:
        return "just now"
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {'day' if name == 'days' and count == 1 else name} ago"
    return f"{int(seconds)} s ago"


def duration(seconds: float | None) -> str:
    """`850 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return quantity(seconds, "s")
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def common_unit(values: Iterable[float], unit: str, share: float = 0.5) -> tuple[float, str]:
    """(SI value of one friendly unit, its name) in which a column or an axis of such values reads best.

    The unit suits the value at `share` of the way from the smallest to the largest.
    """
    sizes = sorted(abs(v) for v in values if v is not None and math.isfinite(v) and v != 0)
    if not unit or not sizes:
        return 1.0, "" if unit == "count" else unit
    typical = sizes[min(int(len(sizes) * share), len(sizes) - 1)]
    one = float(f"1e{3 * math.floor(math.log10(typical) / 3 + 1e-12)}")
    found = re.fullmatch(r"([\d.e+-]+?)\s*([A-Za-z]*)", quantity(one, unit))
    assert found is not None, quantity(one, unit)
    return one / float(found[1]), found[2]


def with_unit(name: str, unit: str) -> str:
    """`latency@x (ms)`; the bare name where there is no unit."""
    return f"{name} ({unit})" if unit else name

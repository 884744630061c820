"""Names in figures: dollars, characters without a glyph, long ones, those that look alike."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import lettering, panels
from reports.__main__ import main
from tests.reports import records_factory, runs_factory
from tests.reports import reports_factory as factory


def names(*texts: str | None) -> pd.DataFrame:
    return pd.DataFrame({"model": pd.Series(texts, dtype="string")})


def drawn(letters: lettering.Lettering, texts: Iterable[str]) -> list[str]:
    """What stands in a legend that is drawn of names."""
    figure = Figure()
    handles = [Line2D([], [], label=letters.names.get(text, text)) for text in texts]
    with rc_context(letters.settings):
        legend = figure.legend(handles=handles)
        figure.savefig(io.BytesIO(), format="svg")
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(
    "text",
    [
        "sam-$FAST_$SLOW",
        "sam-$5 and $10",
        "sam-a^$^b",
        "$TASK_$SEED",
        "cost $1 / $2",
        "$",
        "$$",
        "\\$x$",
        "$\\frac{1}{0}$",
        "$a$b$",
        "\\\\$_$",
        "_hidden",
        "%s {0} {{name}} <b>&amp;",
    ],
)
def test_a_name_is_drawn_as_it_is_and_never_as_mathematics(text: str) -> None:
    letters = lettering.of([names(text)])
    figure = Figure()
    with rc_context(letters.settings):
        written = figure.text(0, 0, letters.names.get(text, text))
        figure.savefig(io.BytesIO(), format="png")
        shown, is_mathematics = written._preprocess_math(written.get_text())  # type: ignore[attr-defined]
    assert (shown, is_mathematics) == (text, False)
    assert letters.note == ""


def test_ordinary_names_are_left_alone() -> None:
    frame = names("sam-exact", "ünï", "العربية", "😀", None)
    letters = lettering.of([frame])
    assert letters == lettering.Lettering({}, ["DejaVu Sans"], "")
    assert letters.on(frame) is frame


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no other fonts than matplotlib's."""
    kept = [
        entry for entry in font_manager.fontManager.ttflist if "mpl-data" in Path(entry.fname).parts
    ]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", kept)


@pytest.mark.usefixtures("bare")
def test_a_character_that_no_font_has_is_written_by_its_number_and_it_is_said() -> None:
    letters = lettering.of([names("中-$1", "plain", "🚀")])
    assert letters.names == {"中-$1": "\\u4e2d-\\$1", "🚀": "\\U0001f680"}
    assert letters.missing == "中🚀"
    assert "中 as \\u4e2d, 🚀 as \\U0001f680." in letters.note
    assert drawn(letters, ["中-$1", "🚀"]) == ["\\u4e2d-\\$1", "\\U0001f680"]


@pytest.mark.usefixtures("bare")
def test_names_that_are_drawn_alike_stay_apart() -> None:
    long = "x" * 300
    frame = names("中", "\\u4e2d", f"{long}a", f"{long}b", f"{long}c")
    shown = lettering.of([frame]).on(frame).model
    assert shown.nunique() == 5
    assert shown[1] == "\\u4e2d"
    assert all(len(text) <= lettering.LONGEST_LABEL + 4 for text in shown)


def make_font(path: Path, family: str, characters: str) -> None:
    """A font with a square for each character."""
    pen = TTGlyphPen(None)
    for place, point in enumerate(((0, 0), (0, 700), (700, 700), (700, 0))):
        (pen.lineTo if place else pen.moveTo)(point)
    pen.closePath()
    square = pen.glyph()
    made = [f"u{ord(each):x}" for each in characters]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *made])
    builder.setupCharacterMap(dict(zip(map(ord, characters), made, strict=True)))
    builder.setupGlyf(dict.fromkeys([".notdef", *made], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *made], (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)


@pytest.mark.usefixtures("bare")
def test_a_font_of_this_machine_that_has_the_characters_is_used(tmp_path: Path) -> None:
    make_font(tmp_path / "han.ttf", "Toy Sans Han", "中文")
    (tmp_path / "damaged.ttf").write_bytes(b"\0" * 100)
    entry = font_manager.ttfFontProperty(font_manager.get_font(str(tmp_path / "han.ttf")))
    damaged = font_manager.FontEntry(str(tmp_path / "damaged.ttf"), "A Sans", "normal")
    font_manager.fontManager.ttflist += [damaged, entry]
    letters = lettering.of([names("中文", "中🚀")])
    assert letters.families == ["DejaVu Sans", "Toy Sans Han"]
    assert letters.names == {"中🚀": "中\\U0001f680"}
    assert letters.missing == "🚀"
    assert drawn(letters, ["中文", "中🚀"]) == ["中文", "中\\U0001f680"]


def test_a_long_title_is_folded_and_an_escaped_dollar_stays_whole() -> None:
    figure = Figure()
    panel = figure.add_subplot()
    panels.finish(panel, "x" * 21 + "\\$" * 12)
    lines = panel.get_title(loc="left").split("\n")
    assert lines == ["x" * 21 + "\\$", "\\$" * 11]
    panels.finish(panel, "curriculum/recall-sam-exact")
    assert panel.get_title(loc="left") == "curriculum/recall-sam-exact"


@pytest.mark.usefixtures("bare")
def test_a_whole_report_on_odd_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings are errors here: of glyphs that are missing and layouts that have no room too."""
    script = "--><script>alert(1)</script>"
    odd = ["sam-中文", "sam-$A_$B", "🚀\u202e\x1b[31m", "_x", "sam-" + "$W_" * 60, script]
    folder = tmp_path / "results" / "b$ox 中"
    sizes = [64, 256]
    factory.write(
        folder,
        factory.result(
            {
                factory.STEP: factory.row([odd, sizes, [1, 10]], lambda m, s, n: 1e-5 * s, True),
                factory.SEQUENCE: factory.row([odd, sizes, [1, 9]], lambda m, s, n: 1.0 * n, True),
                factory.PEAK: factory.row([odd, sizes], lambda m, s: 1.0 * s, False),
            }
        ),
    )
    records_factory.write(
        folder,
        [
            *(records_factory.point(name, 0.5, 100.0, build={"$k": "中$"}) for name in odd),
            *(records_factory.trace(name, "任务$x_$-end", [0.5, 0.6]) for name in odd),
        ],
    )
    for number, name in enumerate(odd):
        run = runs_factory.settings(name, "my_$x$_任务", name=f"{name} $")
        runs_factory.write(tmp_path / "runs" / f"{number} 中", run, runs_factory.lines([9.0, 1.0]))
    arguments = ["build", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--runs", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr()
    assert "中 as \\u4e2d" in said.err
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for words in ("中 as \\u4e2d", "SAM $A_$B", "sam-中文", "🚀\\u202e\\x1b[31m", "My $x$ 任务"):
        assert words in page
    for text in (page, said.err, said.out):
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "<script" not in text
    for path in (tmp_path / "out").glob("*.svg"):
        ElementTree.parse(path)

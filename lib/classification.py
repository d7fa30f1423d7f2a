"""Numbers that judge a classifier, intervals around them, and the baselines to beat.

Labels are integers from 0 and number the columns of the probabilities; each row of those holds the
classes' probabilities and sums to one; the prediction is the class with the largest, the first of
equals. Results are plain numbers and frames in which fractions are from 0 to 1; nothing here plots
or writes, and what is drawn at random depends on the seed alone.
"""

from collections.abc import Sequence

from lib.metrics import interval_ends

import numpy as np
import pandas as pd

SMALLEST = float(np.finfo(np.float32).eps)  # probability below which the loss grows no further
SUM_TOLERANCE = 1e-3  # how far the sum of a row may be from one: float16 rounds


def classification_metrics(
    y_true: np.ndarray, probabilities: np.ndarray, *, n_bins: int = 15
) -> dict[str, float]:
    """Return how often a classifier is right, and how far its probabilities can be believed.

    The expected calibration error is the mean difference of confidence and accuracy over the bins
    of `calibration_table`, weighted by their rows (C. Guo, G. Pleiss, Y. Sun and
    K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017).

    Parameters
    ----------
    y_true : array of shape (n,), int
        True classes, from 0.
    probabilities : array of shape (n, n_classes), float
        Probability of each class.
    n_bins : int, default 15
        Bins of the confidence.

    Returns
    -------
    dict of str to float
        ``accuracy``, and ``precision``, ``recall`` and ``f1_score`` as means over the classes
        weighted by their true counts (0 for a class never predicted; so ``recall`` equals
        ``accuracy``), fractions at best 1; ``loss``, the mean cross-entropy in nats with
        probabilities raised to 1.2e-7 at least, at best 0; ``expected_calibration_error``, a
        fraction at best 0.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, a row is no distribution, or
        `n_bins` is below 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    y_true, probabilities = checked(y_true, probabilities)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1_score, _ = precision_recall_fscore_support(
        y_true, predicted, average="weighted", zero_division=0
    )
    bins = calibration_table(y_true, probabilities, n_bins=n_bins)
    gap = (bins["accuracy"] - bins["confidence"]).abs()
    return {
        "accuracy": float(np.mean(predicted == y_true)),
        "loss": float(cross_entropies(y_true, probabilities).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1_score": float(f1_score),
        "expected_calibration_error": float((gap * bins["n"]).sum() / len(y_true)),
    }


def cross_entropies(y_true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the loss of each row: minus the logarithm of the true class's probability.

    Parameters
    ----------
    y_true : array of shape (n,), int
        True classes, from 0.
    probabilities : array of shape (n, n_classes), float
        Probability of each class; below 1.2e-7 the loss grows no further.

    Returns
    -------
    ndarray of shape (n,), float64
        In nats, at best 0.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, or a row is no distribution.
    """
    y_true, probabilities = checked(y_true, probabilities)
    given_to_truth = probabilities[np.arange(len(y_true)), y_true]
    return -np.log(np.clip(given_to_truth, SMALLEST, 1))


def fit_temperature(y_true: np.ndarray, logits: np.ndarray) -> float:
    """Return the temperature by which logits are divided so that probabilities mean what they say.

    It is the one at which the cross-entropy is least (Guo et al., "On calibration of modern neural
    networks", 2017); no answer changes. Fit it on rows that nothing was learned from.

    Parameters
    ----------
    y_true : array of shape (n,), integer
        Labels, from 0.
    logits : array of shape (n, n_classes), float
        Of the same rows.

    Returns
    -------
    float
        From 0.1 to 10; below 1 where the network was too modest, as label smoothing makes it.

    Raises
    ------
    ValueError
        If the numbers do not fit together, or a logit is not finite.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    y_true, logits = np.asarray(y_true), np.asarray(logits, float)
    if logits.ndim != 2 or y_true.shape != logits.shape[:1] or not len(y_true):
        raise ValueError(f"{y_true.shape} labels do not fit logits of shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    (y_true,) = checked_labels(y_true=y_true)
    _check_range("y_true", y_true, logits.shape[1])
    rows = np.arange(len(y_true))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, y_true].mean()

    ends = np.log([0.1, 10.0])
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def class_table(
    y_true: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Return how well each class is recognised, and what it is taken for when it is not.

    Parameters
    ----------
    y_true : array of shape (n,), int
        True classes, from 0.
    probabilities : array of shape (n, n_classes), float
        Probability of each class.
    classes : sequence of str
        Names of the classes, in the order of the columns.

    Returns
    -------
    pandas.DataFrame of shape (n_classes, 5)
        Index ``class``; ``precision``, ``recall``, ``f1_score``, fractions at best 1 and 0 where
        not defined; ``n``, its rows; ``mistaken_for``, the class most often predicted in its
        place, the first of equals, or ``""``.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, a row is no distribution, or
        there is not one name for each column.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    y_true, probabilities = checked(y_true, probabilities)
    n_classes = probabilities.shape[1]
    if len(classes) != n_classes:
        raise ValueError(f"{len(classes)} classes are named, probabilities have {n_classes}")
    predicted, labels = probabilities.argmax(axis=1), np.arange(n_classes)
    precision, recall, f1_score, n = precision_recall_fscore_support(
        y_true, predicted, labels=labels, zero_division=0
    )
    wrong = confusion_matrix(y_true, predicted, labels=labels)
    np.fill_diagonal(wrong, 0)
    mistaken_for = [classes[row.argmax()] if row.any() else "" for row in wrong]
    return pd.DataFrame(
        {
            "precision": precision,
            "recall": recall,
            "f1_score": f1_score,
            "n": n,
            "mistaken_for": mistaken_for,
        },
        index=pd.Index(classes, name="class"),
    )


def calibration_table(
    y_true: np.ndarray, probabilities: np.ndarray, *, n_bins: int = 15
) -> pd.DataFrame:
    """Return accuracy by confidence, the probability of the predicted class.

    Parameters
    ----------
    y_true : array of shape (n,), int
        True classes, from 0.
    probabilities : array of shape (n, n_classes), float
        Probability of each class.
    n_bins : int, default 15
        Bins of equal width from 0 to 1; each holds its upper end.

    Returns
    -------
    pandas.DataFrame of shape (n_filled_bins, 3)
        Index ``bin``, from 0 and without the empty ones; ``confidence`` and ``accuracy``, means
        over the bin as fractions, equal where probabilities can be taken at their word; ``n``, its
        rows.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, a row is no distribution, or
        `n_bins` is below 1.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins} must be at least 1")
    y_true, probabilities = checked(y_true, probabilities)
    confidence = probabilities.max(axis=1)
    inner_ends = np.linspace(0, 1, n_bins + 1)[1:-1]
    rows = pd.DataFrame(
        {
            "bin": np.searchsorted(inner_ends, confidence, side="left"),
            "confidence": confidence,
            "accuracy": (probabilities.argmax(axis=1) == y_true).astype(np.float64),
        }
    )
    bins = rows.groupby("bin")
    return bins.mean().assign(n=bins.size())


def accuracy_interval(
    y_true: np.ndarray, predicted: np.ndarray, *, level: float = 0.95
) -> dict[str, float]:
    """Return Wilson's interval of the accuracy, which has a width even where every row is right.

    Parameters
    ----------
    y_true, predicted : array of shape (n,), int
        True and predicted classes of independent rows.
    level : float, default 0.95
        How often such intervals hold the true share.

    Returns
    -------
    dict of str to float
        ``accuracy_low`` and ``accuracy_high``, fractions.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or `level` is out of range.
    """
    from scipy.stats import binomtest

    y_true, predicted = checked_labels(y_true=y_true, predicted=predicted)
    interval_ends(level)
    found = binomtest(int((predicted == y_true).sum()), len(y_true))
    low, high = found.proportion_ci(level, method="wilson")
    return {"accuracy_low": float(low), "accuracy_high": float(high)}


def difference_interval(
    y_true: np.ndarray,
    predicted_a: np.ndarray,
    predicted_b: np.ndarray,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Return how much more accurate *a* is than *b*, with a percentile interval.

    Both are judged on the same resampled rows, so what is hard for both cancels out; an interval
    above 0 says that *a* is better. What is drawn is how many rows only *a* has right, and how
    many only *b*.

    Parameters
    ----------
    y_true, predicted_a, predicted_b : array of shape (n,), int
        True classes and two predictions of them, of independent rows.
    n_resamples : int, default 1000
        How many resamples to draw.
    level : float, default 0.95
        Fraction of the resamples inside the interval.
    seed : int, default 0
        Seed of the draw.

    Returns
    -------
    dict of str to float
        ``difference``, ``difference_low`` and ``difference_high``: accuracy of *a* less that of
        *b*, fractions from -1 to 1.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, or an option is out of range.
    """
    y_true, predicted_a, predicted_b = checked_labels(
        y_true=y_true, predicted_a=predicted_a, predicted_b=predicted_b
    )
    a, b = predicted_a == y_true, predicted_b == y_true
    drawn = _resampled_counts([a & ~b, b & ~a, a == b], n_resamples=n_resamples, seed=seed)
    draws = (drawn[:, 0] - drawn[:, 1]) / len(y_true)
    low, high = np.quantile(draws, interval_ends(level)).tolist()
    difference = (int(a.sum()) - int(b.sum())) / len(y_true)
    return {"difference": difference, "difference_low": low, "difference_high": high}


def confident_mistakes(y_true: np.ndarray, probabilities: np.ndarray, n: int) -> np.ndarray:
    """Return the rows of wrong predictions, the most confident first.

    Parameters
    ----------
    y_true : array of shape (n_rows,), int
        True classes, from 0.
    probabilities : array of shape (n_rows, n_classes), float
        Probability of each class.
    n : int
        How many to return at most, at least 1.

    Returns
    -------
    ndarray of shape (at most n,), int
        Row numbers; among equals, in the order of the rows.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, a row is no distribution, or
        `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    y_true, probabilities = checked(y_true, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != y_true)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")[:n]]


def most_frequent_probabilities(y_train: np.ndarray, n_rows: int, n_classes: int) -> np.ndarray:
    """Return the baseline that sees no input: how frequent each class is in training.

    Its prediction is the most frequent class, and no other constant has a lower loss on the
    training labels.

    Parameters
    ----------
    y_train : array of shape (n,), int
        Classes of the training rows, from 0.
    n_rows : int
        Rows to return, at least 1.
    n_classes : int
        Columns to return, more than the largest label.

    Returns
    -------
    ndarray of shape (n_rows, n_classes), float64
        The same frequencies in every row, fractions.

    Raises
    ------
    ValueError
        If there are no labels, one has no column, or `n_rows` is below 1.
    """
    if n_rows < 1:
        raise ValueError(f"n_rows={n_rows} must be at least 1")
    (y_train,) = checked_labels(y_train=y_train)
    _check_range("y_train", y_train, n_classes)
    frequencies = np.bincount(y_train, minlength=n_classes) / len(y_train)
    return np.tile(frequencies, (n_rows, 1))


def checked_labels(**named: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return class numbers as arrays, checked to be as many as the first of them."""
    arrays = tuple(np.asarray(values) for values in named.values())
    first = next(iter(named))
    for name, values in zip(named, arrays, strict=True):
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} has shape {values.shape}: give one row or more, one column")
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} is {values.dtype}: give class numbers, int")
        if len(values) != len(arrays[0]):
            raise ValueError(
                f"{first} has {len(arrays[0])} rows, {name} {len(values)}: give as many"
            )
    return arrays


def checked(y_true: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and float64 probabilities, checked to be such and to belong together."""
    (y_true,) = checked_labels(y_true=y_true)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or len(probabilities) != len(y_true):
        raise ValueError(
            f"probabilities have shape {probabilities.shape} for {len(y_true)} labels: "
            "give one row for each label, one column for each class"
        )
    _check_range("y_true", y_true, probabilities.shape[1])
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if wrong.size:
        raise ValueError(f"probabilities are not finite at row {wrong[0]}")
    wrong = np.flatnonzero((probabilities < 0).any(axis=1))
    if wrong.size:
        raise ValueError(f"probabilities are below 0 at row {wrong[0]}")
    total = probabilities.sum(axis=1)
    wrong = np.flatnonzero(np.abs(total - 1) > SUM_TOLERANCE)
    if wrong.size:
        raise ValueError(
            f"probabilities sum to {total[wrong[0]]:.4g} at row {wrong[0]}: give rows that sum to "
            f"1 within {SUM_TOLERANCE}; a network's scores need a softmax first"
        )
    return y_true, probabilities


def _check_range(name: str, labels: np.ndarray, n_classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if wrong.size:
        raise ValueError(
            f"{name} is {labels[wrong[0]]} at row {wrong[0]}: "
            f"labels of {n_classes} classes are from 0 to {n_classes - 1}"
        )


def _resampled_counts(groups: Sequence[np.ndarray], *, n_resamples: int, seed: int) -> np.ndarray:
    """Return how many rows of each group are drawn, of shape (n_resamples, n_groups).

    Each row belongs to one group; `groups` are boolean, of shape (n,).
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples} must be at least 1")
    shares = [np.mean(group) for group in groups]
    return np.random.default_rng(seed).multinomial(len(groups[0]), shares, size=n_resamples)

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
N_BINS = 15  # of the confidence, of equal width
SUM_TOLERANCE = 1e-3  # how far the sum of a row may be from one: float16 rounds


def classification_metrics(y_true: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
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
        If lengths differ, there are no rows, a label has no column, or a row is no distribution.
    """
    from sklearn.metrics import precision_recall_fscore_support

    y_true, probabilities = checked(y_true, probabilities)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1_score, _ = precision_recall_fscore_support(
        y_true, predicted, average="weighted", zero_division=0
    )
    bins = calibration_table(y_true, probabilities)
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
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits = np.asarray(logits, float)
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
    predicted, labels = probabilities.argmax(axis=1), np.arange(probabilities.shape[1])
    columns = ("precision", "recall", "f1_score", "n")
    scores = precision_recall_fscore_support(y_true, predicted, labels=labels, zero_division=0)
    wrong = confusion_matrix(y_true, predicted, labels=labels)
    np.fill_diagonal(wrong, 0)
    mistaken_for = [classes[row.argmax()] if row.any() else "" for row in wrong]
    table = pd.DataFrame(dict(zip(columns, scores, strict=True)), pd.Index(classes, name="class"))
    return table.assign(mistaken_for=mistaken_for)


def calibration_table(y_true: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return accuracy by confidence, the probability of the predicted class.

    Parameters
    ----------
    y_true : array of shape (n,), int
        True classes, from 0.
    probabilities : array of shape (n, n_classes), float
        Probability of each class.

    Returns
    -------
    pandas.DataFrame of shape (n_filled_bins, 3)
        Index ``bin``, of `N_BINS` that hold their upper ends, the empty ones left out;
        ``confidence`` and ``accuracy``, means over the bin as fractions, equal where probabilities
        can be taken at their word; ``n``, its rows.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, or a row is no distribution.
    """
    y_true, probabilities = checked(y_true, probabilities)
    confidence = probabilities.max(axis=1)
    inner_ends = np.linspace(0, 1, N_BINS + 1)[1:-1]
    rows = pd.DataFrame(
        {
            "bin": np.searchsorted(inner_ends, confidence, side="left"),
            "confidence": confidence,
            "accuracy": (probabilities.argmax(axis=1) == y_true).astype(np.float64),
        }
    )
    bins = rows.groupby("bin")
    return bins.mean().assign(n=bins.size())


def accuracy_interval(y_true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return Wilson's interval of 95 % of the accuracy; it has a width even where all is right.

    Parameters
    ----------
    y_true, predicted : array of shape (n,), int
        True and predicted classes of independent rows.

    Returns
    -------
    dict of str to float
        ``accuracy_low`` and ``accuracy_high``, fractions.
    """
    from scipy.stats import binomtest

    found = binomtest(int((predicted == y_true).sum()), len(y_true))
    low, high = found.proportion_ci(0.95, method="wilson")
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
    """
    a, b = predicted_a == y_true, predicted_b == y_true
    shares = [np.mean(a & ~b), np.mean(b & ~a), np.mean(a == b)]
    drawn = np.random.default_rng(seed).multinomial(len(y_true), shares, size=n_resamples)
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
        How many to return at most.

    Returns
    -------
    ndarray of shape (at most n,), int
        Row numbers; among equals, in the order of the rows.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a label has no column, or a row is no distribution.
    """
    y_true, probabilities = checked(y_true, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != y_true)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")[:n]]


def checked(y_true: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and float64 probabilities, checked to be such and to belong together."""
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities, dtype=np.float64)
    if y_true.ndim != 1 or not len(y_true) or not np.issubdtype(y_true.dtype, np.integer):
        raise ValueError(
            f"y_true is {y_true.dtype} of shape {y_true.shape}: give class numbers, int, one row "
            "or more, one column"
        )
    if probabilities.ndim != 2 or len(probabilities) != len(y_true):
        raise ValueError(
            f"probabilities have shape {probabilities.shape} for {len(y_true)} labels: "
            "give one row for each label, one column for each class"
        )
    n_classes = probabilities.shape[1]
    wrong = np.flatnonzero((y_true < 0) | (y_true >= n_classes))
    if wrong.size:
        raise ValueError(
            f"y_true is {y_true[wrong[0]]} at row {wrong[0]}: "
            f"labels of {n_classes} classes are from 0 to {n_classes - 1}"
        )
    sums_to_one = np.abs(probabilities.sum(axis=1) - 1) <= SUM_TOLERANCE  # NaN does not
    wrong = np.flatnonzero(~sums_to_one | (probabilities < 0).any(axis=1))
    if wrong.size:
        raise ValueError(
            f"probabilities are {probabilities[wrong[0]]} at row {wrong[0]}: give rows from 0 up "
            f"that sum to 1 within {SUM_TOLERANCE}; a network's scores need a softmax first"
        )
    return y_true, probabilities

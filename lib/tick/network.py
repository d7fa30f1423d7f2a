"""Parts of networks on windows of bars: a gate, a symmetry, and a line learned before.

A network takes windows of scaled bars, of shape (n, window, n_features), and gives one number for
each. All parts are Keras' own layers, so a saved network needs nothing of this project. Importing
this module imports Keras.
"""

from collections.abc import Sequence

from lib.backend import import_keras

import numpy as np

keras = import_keras()
layers = keras.layers

UNDIRECTED = ("range_", "log_", "volatility_", "bollinger_width", "time_of_day", "spread_")
"""How the names of those features begin that stay the same when every price moves the other way."""


def last_bar(bars: keras.KerasTensor) -> keras.KerasTensor:
    """Return the features of the last bar of each window."""
    return layers.Flatten()(layers.Cropping1D((bars.shape[1] - 1, 0))(bars))


def gated(
    x: keras.KerasTensor, skip: keras.KerasTensor, *, units: int, dropout: float
) -> keras.KerasTensor:
    """Return `skip` and what a gate lets through of `x`: the gated residual network.

    Lim et al., "Temporal Fusion Transformers for interpretable multi-horizon time series
    forecasting", International Journal of Forecasting 37, 2021.
    """
    hidden = layers.Dropout(dropout)(layers.Dense(units)(layers.Dense(units, "elu")(x)))
    gate = layers.Dense(units, "sigmoid")(hidden)
    return layers.LayerNormalization()(layers.Add()([skip, layers.Multiply()([hidden, gate])]))


def symmetric(
    bars: keras.KerasTensor, out: keras.KerasTensor, features: Sequence[str]
) -> keras.Model:
    """Return a network that gives the negative when every price moves the other way.

    Parameters
    ----------
    bars, out : keras.KerasTensor
        Input, of shape (n, window, n_features), and output of the half that is evaluated twice: on
        the bars, and on their mirror image. The difference is the network's output.
    features : sequence of str
        Their names; all but the `UNDIRECTED` change their sign in the mirror.
    """
    mirror = [1.0 if name.startswith(UNDIRECTED) else -1.0 for name in features]
    half = keras.Model(bars, out, name="half")
    seen = keras.Input(half.input_shape[1:])
    mirrored = layers.Rescaling(mirror)(seen)
    return keras.Model(seen, layers.Subtract()([half(seen), half(mirrored)]), name="network")


def with_line(network: keras.Model, coefficients: np.ndarray, intercept: float) -> keras.Model:
    """Return the sum of a network and a linear function of the last bar.

    Parameters
    ----------
    network : keras.Model
        Of shape (n, window, n_features) to (n, 1).
    coefficients : numpy.ndarray of shape (n_features,)
    intercept : float
    """
    bars = keras.Input(network.input_shape[1:])
    line = layers.Dense(1)
    whole = keras.Model(bars, layers.Add()([network(bars), line(last_bar(bars))]))
    line.set_weights([coefficients[:, None], np.array([intercept])])
    return whole

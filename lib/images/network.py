"""What convolutional networks need beside Keras' own layers: first kernels, an optimiser, views.

Networks are trained with parts from here, and kept as stock Keras layers: `deployable` gives the
same function without them, so a registered model loads where this project is not. Importing this
module imports Keras.
"""

from collections.abc import Callable, Sequence

from lib.backend import import_keras
from lib.sources import find_file

import numpy as np

keras = import_keras()
ops = keras.ops

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
KERNEL_MOMENTUM, OTHER_MOMENTUM = 0.6, 0.85


class FastConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose backward pass is faster on CPUs: see `convolve`.

    The gradient with respect to the input is a convolution with the turned kernel, and is computed
    as one; TensorFlow's own kernel for it takes about twice as long. That holds for a stride of 1,
    an odd kernel and padding "same".
    """

    def convolution_op(
        self, inputs: keras.KerasTensor, kernel: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Convolve; the gradient for the kernel is Keras' own."""
        outputs = super().convolution_op(ops.stop_gradient(inputs), kernel)
        return _send_back(outputs, inputs, ops.stop_gradient(kernel))


@ops.custom_gradient
def _send_back(
    outputs: keras.KerasTensor, inputs: keras.KerasTensor, kernel: keras.KerasTensor
) -> tuple:
    """Return `outputs`; on the way back also give `inputs` their gradient."""

    def gradient(
        *gradients: keras.KerasTensor, upstream: keras.KerasTensor | None = None
    ) -> tuple[keras.KerasTensor, ...]:
        above = gradients[0] if upstream is None else upstream
        turned = ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))
        return above, ops.conv(above, turned, padding="same"), ops.zeros_like(kernel)

    return outputs, gradient


def dirac(shape: Sequence[int], dtype: str | None = None) -> keras.KerasTensor:
    """Return a kernel whose first filters pass their input on, and whose others are random.

    Filter k of the first `min(channels, filters)` is one at the middle of channel k and zero
    elsewhere ("dirac"); the others are uniform within one over the root of their inputs.

    Parameters
    ----------
    shape : sequence of int
        Height, width, channels, filters.
    dtype : str, optional
    """
    height, width, channels, filters = shape
    within = (height * width * channels) ** -0.5
    seed = keras.random.SeedGenerator()
    kernel = keras.random.uniform(shape, -within, within, dtype="float32", seed=seed)
    kernel = np.array(ops.convert_to_numpy(kernel))
    passed = min(channels, filters)
    kernel[..., :passed] = 0
    kernel[height // 2, width // 2, range(passed), range(passed)] = 1
    return ops.convert_to_tensor(kernel, dtype)


def convolve(x: keras.KerasTensor, filters: int, side: int = 3) -> keras.KerasTensor:
    """Return a convolution without bias, of an odd side, that begins by passing its input on."""
    layer = FastConv2D(filters, side, padding="same", use_bias=False, kernel_initializer=dirac)
    return layer(x)


def normal(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the input normalised over the batch, through a GELU."""
    norm = keras.layers.BatchNormalization(scale=False, momentum=0.6, epsilon=1e-5)
    return ops.gelu(norm(x), approximate=True)


def logits(x: keras.KerasTensor, n_classes: int) -> keras.KerasTensor:
    """Return the last layer's logits, in float32; it begins small."""
    small = keras.initializers.RandomNormal(stddev=1 / x.shape[-1])
    last = keras.layers.Dense(n_classes, use_bias=False, kernel_initializer=small, dtype="float32")
    return last(x)


def whitening_kernel(
    images: np.ndarray, mean: np.ndarray, std: np.ndarray, *, eps: float = 5e-4
) -> np.ndarray:
    """Return filters that make the 2x2 patches of images uncorrelated and of equal variance.

    They are the eigenvectors of the covariance of the patches, over the root of their eigenvalues,
    and the negatives of both (Page, "How to train your ResNet", 2019; Jordan, arXiv:2404.00498). A
    first layer of them need not be trained.

    Parameters
    ----------
    images : numpy.ndarray of shape (n, height, width, channels), uint8
        Training images; some thousands do.
    mean, std : array of shape (channels,), float
        Of the channels; they are taken off before.
    eps : float, default 5e-4
        Added to the eigenvalues, so that noise is not blown up.

    Returns
    -------
    numpy.ndarray of shape (2, 2, channels, 8 * channels), float32
    """
    scaled = ((images - np.asarray(mean)) / np.asarray(std)).astype(np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(scaled, (2, 2), axis=(1, 2))
    flat = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 4 * images.shape[3])
    values, vectors = np.linalg.eigh((flat.T @ flat / len(flat)).astype(np.float64))
    filters = (vectors / np.sqrt(values + eps))[:, ::-1]
    signs = np.sign(filters[np.abs(filters).argmax(axis=0), range(filters.shape[1])])
    filters = np.concatenate([filters * signs, -filters * signs], axis=1)
    return filters.reshape(2, 2, images.shape[3], -1).astype(np.float32)


class Muon(keras.optimizers.Optimizer):
    """Muon for the kernels of convolutions, SGD with Nesterov momentum for the rest.

    A kernel's gradient, with Nesterov momentum 0.6, is brought close to the nearest orthogonal
    matrix by three Newton-Schulz steps, so it changes the layer by as much in every direction; the
    kernel keeps a norm of the square root of its filters. Vectors and matrices go by SGD with
    momentum 0.85. Method: Jordan et al., "Muon: an optimizer for hidden layers in neural networks",
    2024, with the settings of github.com/KellerJordan/cifar10-airbench. `keras.optimizers.Muon`
    leaves the kernels of convolutions, which have four axes, to AdamW.

    Parameters
    ----------
    learning_rate : float
        Of kernels of convolutions: the size of a step in every direction.
    bias_rate, matrix_rate : float
        Of vectors and of matrices. They fall in proportion with ``optimizer.learning_rate``.
    weight_decay : float
        Fraction that vectors and matrices lose in a step, before momentum.
    every : int, default 1
        Batches whose mean gradient makes a step.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        bias_rate: float,
        matrix_rate: float,
        weight_decay: float = 0.0,
        every: int = 1,
    ) -> None:
        super().__init__(
            learning_rate, name="muon", gradient_accumulation_steps=every if every > 1 else None
        )
        self.rates = {1: bias_rate / learning_rate, 2: matrix_rate / learning_rate}
        self.decays = {1: weight_decay / bias_rate, 2: weight_decay / matrix_rate}

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the momentum of every variable."""
        if not self.built:
            super().build(variables)
            self.momenta = [
                self.add_variable_from_reference(variable, "momentum") for variable in variables
            ]

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, rate: keras.KerasTensor
    ) -> None:
        """Change one variable."""
        momentum = self.momenta[self._get_variable_index(variable)]
        axes = len(variable.shape)
        if axes == 4:
            step = _nesterov(momentum, gradient, KERNEL_MOMENTUM)
            filters = variable.shape[3]
            change = ops.reshape(_orthogonal(ops.reshape(step, (-1, filters))), variable.shape)
            scaled = variable * (filters**0.5 / ops.norm(ops.reshape(variable, (-1,))))
            variable.assign(scaled - rate * change)
        else:
            decayed = gradient + self.decays[axes] * variable
            step = _nesterov(momentum, decayed, OTHER_MOMENTUM)
            variable.assign(variable - self.rates[axes] * rate * step)

    def get_config(self) -> dict:
        """Return what decides the steps."""
        own = {"rates": list(self.rates.values()), "decays": list(self.decays.values())}
        return super().get_config() | own


def _nesterov(
    momentum: keras.Variable, gradient: keras.KerasTensor, kept: float
) -> keras.KerasTensor:
    momentum.assign(kept * momentum + gradient)
    return gradient + kept * momentum


def _orthogonal(matrix: keras.KerasTensor) -> keras.KerasTensor:
    """Return about the nearest matrix with orthonormal rows or columns."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(3):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x


def deployable(network: keras.Model) -> keras.Model:
    """Return the same function in stock Keras layers, in float32.

    Parameters
    ----------
    network : keras.Model
        Functional, of stock layers and of those in this module.
    """

    def stock(layer: keras.Operation) -> keras.Operation:
        if not isinstance(layer, keras.layers.Layer):  # a function of `keras.ops`
            return type(layer).from_config(layer.get_config())
        config = layer.get_config() | {"dtype": "float32"}
        if isinstance(layer, keras.layers.Conv2D):
            return keras.layers.Conv2D.from_config(config | {"kernel_initializer": "zeros"})
        return type(layer).from_config(config)

    uncompiled = keras.Model(network.input, network.output)
    copy = keras.models.clone_model(uncompiled, clone_function=stock)
    copy.set_weights(network.get_weights())
    return copy


def mean_of(networks: Sequence[keras.Model]) -> keras.Model:
    """Return a network that gives the mean of the logits of several.

    Parameters
    ----------
    networks : sequence of keras.Model
        At least one, of the same inputs and outputs. One alone is returned as it is.

    """
    if len(networks) == 1:
        return networks[0]
    seen = keras.Input(networks[0].input_shape[1:])
    named = [  # a model refuses two parts of the same name
        keras.Model(network.input, network.output, name=f"network_{number}")
        for number, network in enumerate(networks, start=1)
    ]
    return keras.Model(seen, keras.layers.Average()([network(seen) for network in named]))


def with_views(
    network: keras.Model, image_shape: Sequence[int], views: str, *, temperature: float = 1.0
) -> keras.Model:
    """Return a model that averages a network's logits over views of each image.

    Parameters
    ----------
    network : keras.Model
        From raw images to logits.
    image_shape : sequence of int
        Of one image.
    views : {"one", "mirror", "six"}
        The image alone; with its mirror image; or these with weight a half, and with a quarter each
        the same of the image moved by one pixel up and left, and down and right.
    temperature : float, default 1.0
        What the mean is divided by, see `lib.classification.fit_temperature`.

    Returns
    -------
    keras.Model
        From images, uint8, of `image_shape`, to logits.
    """
    images = keras.Input(image_shape, dtype="uint8")
    raw = ops.cast(images, "float32")
    if views == "one":
        return keras.Model(images, network(raw) * (1 / temperature))
    seen = [(raw, 1.0)]
    if views == "six":
        height, width = image_shape[:2]
        edges = [(0, 0), (1, 1), (1, 1)] + [(0, 0)] * (len(image_shape) - 2)
        padded = ops.pad(raw, edges, mode="reflect")
        moved = (padded[:, :height, :width], padded[:, 2:, 2:])
        seen = [(raw, 0.5), *((view, 0.25) for view in moved)]
    logits = [
        network(view) * (weight / 2 / temperature)
        for image, weight in seen
        for view in (image, ops.flip(image, axis=2))
    ]
    return keras.Model(images, keras.layers.Add()(logits))


def pretrained(
    name: str, size: int, weights: str
) -> tuple[keras.Model, Callable[[keras.KerasTensor], keras.KerasTensor]]:
    """Return a network that others trained on ImageNet, without its head, and what its input needs.

    Parameters
    ----------
    name : {"resnet50", "vgg16"}
        He et al. (2015), Simonyan and Zisserman (2014); weights by keras.io.
    size : int
        Height and width of its input, at least 32.
    weights : str
        File of its weights, without top, as Keras names them: absolute, or in `DATA_DIR` or the
        repository. Empty to download them, once, into Keras' own cache.

    Returns
    -------
    network : keras.Model
        From prepared images to features; of that name.
    prepare : callable
        From images of 0 to 255 to what the network was trained on.

    Raises
    ------
    ValueError
        If there is no such file, it holds other weights, or they cannot be downloaded.
    """
    makers = {
        "resnet50": (keras.applications.ResNet50, keras.applications.resnet50),
        "vgg16": (keras.applications.VGG16, keras.applications.vgg16),
    }
    make, module = makers[name]
    file = str(find_file(weights)) if weights else "imagenet"
    try:
        network = make(include_top=False, weights=file, input_shape=(size, size, 3), name=name)
    except Exception as error:  # of HDF5, of the network, of Keras
        raise ValueError(
            f"{weights or 'what keras.io sends'} does not hold weights of {name} without top: give "
            f"their file by the parameter `weights` ({type(error).__name__}: {error})"
        ) from error
    return network, module.preprocess_input

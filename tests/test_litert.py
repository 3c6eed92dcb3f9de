"""Each operator of `synths.engines.litert` against NumPy, and the runner's promises."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from synths.engines.litert import Graph, Runner

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def run(layers, *arrays, threads=1):
    """Build a graph of one result with `layers(graph, *inputs)` and run it on the arrays."""
    graph = Graph()
    graph.output(layers(graph, *(graph.input(array.shape) for array in arrays)))
    runner = Runner(graph.build(), threads)
    for target, array in zip(runner.inputs, arrays):
        target[:] = array
    runner.invoke()
    return runner.outputs[0].copy()


def quantise(weights):
    scale = np.abs(weights).max(axis=0) / 127
    return np.round(weights / scale).astype(np.int8), scale.astype(np.float32)


def conv2d(x, kernel, dilation):
    """Convolution in the sense of neural networks, zeros around, by scipy."""
    dilated = np.zeros([(kernel.shape[0] - 1) * dilation[0] + 1,
                        (kernel.shape[1] - 1) * dilation[1] + 1, *kernel.shape[2:]])
    dilated[::dilation[0], ::dilation[1]] = kernel
    result = np.zeros([*x.shape[:3], kernel.shape[3]])
    for b in range(x.shape[0]):
        for i in range(kernel.shape[2]):
            for o in range(kernel.shape[3]):
                result[b, ..., o] += signal.correlate(x[b, ..., i], dilated[..., i, o], "same")
    return result


@pytest.mark.parametrize("rows, inputs, outputs", [(1, 16, 8), (12, 512, 1024), (5, 3, 7)])
def test_fully_connected(rows, inputs, outputs):
    x, weights, bias = normal(rows, inputs), normal(inputs, outputs), normal(outputs)
    result = run(lambda g, x: g.fully_connected(x, weights, bias), x)
    np.testing.assert_allclose(result, x @ weights + bias, atol=1e-5 * inputs ** 0.5, rtol=1e-4)
    result = run(lambda g, x: g.fully_connected(x, weights), x)
    np.testing.assert_allclose(result, x @ weights, atol=1e-5 * inputs ** 0.5, rtol=1e-4)


def test_int8_weights_give_what_quantised_factors_give():
    x, weights, bias = normal(6, 512), normal(512, 64) * np.logspace(-2, 1, 64), normal(64)
    x[1] *= 100
    codes, scale = quantise(weights.astype(np.float32))
    result = run(lambda g, x: g.fully_connected(x, codes, bias, scale=scale), x)
    # Each row of x goes through 8 bits too: its step is its range / 255.
    exact = x @ (codes * scale) + bias
    step = (np.maximum(x.max(1), 0) - np.minimum(x.min(1), 0)) / 255
    bound = 0.5 * step[:, None] * np.abs(codes * scale).sum(0)
    assert (np.abs(result - exact) <= bound).all()
    assert np.abs(result - exact).max() > 0


@pytest.mark.parametrize("kernel, dilation", [((3, 3), (1, 1)), ((1, 3), (1, 4)), ((1, 1), (1, 1)),
                                              ((3, 3), (2, 1))])
def test_conv2d(kernel, dilation):
    x, weights, bias = normal(2, 9, 20, 4), normal(*kernel, 4, 6), normal(6)
    wanted = conv2d(x, weights, dilation) + bias
    result = run(lambda g, x: g.conv2d(x, weights, bias, dilation), x)
    np.testing.assert_allclose(result, wanted, atol=1e-4)
    result = run(lambda g, x: g.conv2d(x, weights, bias, dilation, activation="RELU"), x)
    np.testing.assert_allclose(result, np.maximum(wanted, 0), atol=1e-4)


def test_conv2d_without_padding():
    x, weights = normal(1, 8, 9, 3), normal(3, 2, 3, 5)
    result = run(lambda g, x: g.conv2d(x, weights, np.zeros(5), padding="VALID"), x)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), axis=(1, 2))
    np.testing.assert_allclose(result, np.einsum("bhwiyx,yxio->bhwo", windows, weights), atol=1e-4)


@pytest.mark.parametrize("layers, expected", [
    (lambda g, x: g.tanh(x), np.tanh),
    (lambda g, x: g.sigmoid(x), lambda x: 1 / (1 + np.exp(-x))),
    (lambda g, x: g.relu(x), lambda x: np.maximum(x, 0)),
    (lambda g, x: g.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    (lambda g, x: g.rsqrt(g.multiply(x, x)), lambda x: 1 / np.abs(x)),
    (lambda g, x: g.softmax(x), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    (lambda g, x: g.mean(x, -1), lambda x: x.mean(-1, keepdims=True)),
    (lambda g, x: g.square(x), np.square),
    (lambda g, x: g.resize_nearest(x, 8, 12), lambda x: x.repeat(2, 1).repeat(2, 2)),
    (lambda g, x: g.concatenate([x, g.tanh(x)]), lambda x: np.concatenate([x, np.tanh(x)], -1)),
    (lambda g, x: g.add(*g.split(x, 2)), lambda x: x[..., :4] + x[..., 4:]),
    (lambda g, x: g.add(x, np.arange(8)), lambda x: x + np.arange(8)),
    (lambda g, x: g.add(x, g.slice(x, [0, 0, 0, 2], [2, 4, 6, 1])), lambda x: x + x[..., 2:3]),
    (lambda g, x: g.slice(x, [0, 1, 2, 0], [1, 3, -1, -1]), lambda x: x[:1, 1:4, 2:]),
    (lambda g, x: g.tanh(g.reshape(x, [-1, 16])), lambda x: np.tanh(x.reshape(-1, 16))),
])
def test_operator(layers, expected):
    x = normal(2, 4, 6, 8)
    result = run(layers, x)
    np.testing.assert_allclose(result, expected(x), rtol=2e-5, atol=1e-6)


def test_any_operator_by_name():
    x = normal(3, 5)
    np.testing.assert_allclose(run(lambda g, x: g.op("ABS", [x]), x), np.abs(x))
    result = run(lambda g, x: g.op("CUMSUM", [x, g.constant(np.array(1, np.int32))], x.shape,
                                   options="Cumsum"), x)
    np.testing.assert_allclose(result, np.cumsum(x, 1), rtol=1e-5)
    with pytest.raises(TypeError, match="fast"):
        run(lambda g, x: g.op("ABS", [x], x.shape, options="Cumsum", fast=True), x)


def test_threads_do_not_change_results():
    x, weights = normal(40, 256), normal(256, 512)
    one, two = (run(lambda g, x: g.tanh(g.fully_connected(x, weights)), x, threads=n)
                for n in (1, 2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_row_does_not_depend_on_its_neighbours(precision):
    """What lets a clip sound the same alone and in a batch."""
    x, weights, scale = normal(23, 512), normal(512, 768), None
    if precision == "int8":
        weights, scale = quantise(weights)

    def layer(g, x):
        return g.tanh(g.fully_connected(x, weights, scale=scale))

    together = run(layer, x)
    for rows in ([0], [22], [3, 4], list(range(7)), list(range(22, 0, -2))):
        assert np.array_equal(run(layer, x[rows]), together[rows])


def test_several_inputs_and_outputs_keep_their_order():
    graph = Graph()
    a, b = graph.input([1, 2]), graph.input([1, 3])
    graph.output(graph.concatenate([b, a]))
    graph.output(graph.add(a, np.float32([10, 20])))
    runner = Runner(graph.build())
    runner.inputs[0][:] = [[1, 2]]
    runner.inputs[1][:] = [[3, 4, 5]]
    runner.invoke()
    np.testing.assert_array_equal(runner.outputs[0], [[3, 4, 5, 1, 2]])
    np.testing.assert_array_equal(runner.outputs[1], [[11, 22]])


def test_views_outlive_the_runner():
    graph = Graph()
    graph.output(graph.tanh(graph.input([64, 64])))
    runner = Runner(graph.build())
    runner.inputs[0][:] = 1
    runner.invoke()
    result = runner.outputs[0]
    del runner
    gc.collect()
    np.testing.assert_allclose(result, np.tanh(1), rtol=1e-6)


_TOGETHER = """
import sys, threading, time
from synths.engines.litert import silent_stderr

def aside(start, stop):
    time.sleep(start)
    with silent_stderr():
        time.sleep(stop - start)

# the second begins while the first is at it, and ends after it
threads = [threading.Thread(target=aside, args=times) for times in ((0, 0.3), (0.1, 0.5))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("still heard", file=sys.stderr)
"""


def test_threads_that_silence_stderr_at_once_give_it_back():
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", _TOGETHER], cwd=root, capture_output=True,
                          text=True)
    assert (done.returncode, done.stderr.split("\n")) == (0, ["still heard", ""])


@pytest.mark.parametrize("layers", [lambda g, x: g.fully_connected(x, normal(4, 3)),
                                    lambda g, x: g.split(x, 2)[0]])
def test_wrong_sizes_are_refused(layers):
    with pytest.raises(RuntimeError, match="reshape"):
        run(layers, normal(2, 5))


def test_a_graph_is_built_once():
    graph = Graph()
    graph.output(graph.add(graph.input([1]), 1.0))
    graph.build()
    with pytest.raises(ValueError, match="shorter"):
        graph.build()

import numpy as np

from densityjax.modules.average import weighted_average


def test_the_average_of_one_module_is_the_module():
    """To the bit, whatever the weights."""
    draw = np.random.default_rng(0)
    trunk = {"stem": {"dilation1": {"kernel": draw.normal(size=(3, 4)).astype(np.float32)}}}
    for weights in ([1.0], [0.3, 0.7], [0.2, 0.5, 0.3]):
        found = weighted_average([trunk] * len(weights), weights)
        kernel = found["stem"]["dilation1"]["kernel"]
        np.testing.assert_array_equal(kernel, trunk["stem"]["dilation1"]["kernel"])
        assert kernel.dtype == np.float32


def test_parameters_are_averaged_one_by_one():
    first, second = {"a": {"k": np.float32([1, 2])}}, {"a": {"k": np.float32([3, 6])}}
    found = weighted_average([first, second], [0.25, 0.75])
    np.testing.assert_array_equal(found["a"]["k"], [2.5, 5.0])

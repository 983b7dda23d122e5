"""Marks of tests that need something that not every release or machine has."""

import pytest

from densityjax.model.ops import onednn as kernels

onednn = pytest.mark.skipif(
    not kernels.available(), reason="no oneDNN convolution in this jaxlib or on this machine"
)

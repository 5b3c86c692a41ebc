"""The arithmetic that a device supports."""

import sys

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.runtime import device

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc/cpuinfo")
def test_a_torch_without_capabilities_finds_the_same_arithmetic(monkeypatch):
    expected = device.autocast_dtype("auto", CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device.autocast_dtype("auto", CPU) == expected


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16", "avx2"])
def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch, feature):
    monkeypatch.setattr(device, "cpu_features", lambda: {"fma", feature})
    assert device.autocast_dtype("float32", CPU) is None
    assert device.autocast_dtype("auto", CPU) == (None if feature == "avx2" else torch.bfloat16)
    if feature == "avx2":
        with pytest.raises(InputError, match="precision = 'bfloat16': expected float32"):
            device.autocast_dtype("bfloat16", CPU)

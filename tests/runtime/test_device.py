"""The arithmetic that a device supports."""

import sys

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.runtime import device
from gpt2.runtime.world import _device, world

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


@pytest.fixture
def mac(monkeypatch):
    """A machine with the GPU of a Mac."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_auto_takes_the_first_device_that_there_is_and_a_missing_one_is_refused(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert device.choose_device().type == expected
        assert device.choose_device("cpu") == CPU
    with pytest.raises(InputError, match="^device = 'mps': torch finds none here; expected auto or cpu$"):
        device.choose_device("mps")


def test_processes_share_the_cpu_of_a_mac_and_not_its_gpu(mac, monkeypatch):
    assert [_device("auto", size, 0).type for size in (1, 2)] == ["mps", "cpu"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="device = 'mps': 2 processes cannot share it"), world("mps"):
        pass


def test_on_a_mac_auto_is_float32_without_the_compiler(mac, monkeypatch):
    mps = torch.device("mps")
    assert device.autocast_dtype("auto", mps) is None and not device.can_compile("auto")
    for new_enough in (True, False):
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version, new=new_enough: new)
        if new_enough:
            assert device.autocast_dtype("bfloat16", mps) == torch.bfloat16
        else:
            with pytest.raises(InputError, match="this mps does not support bfloat16"):
                device.autocast_dtype("bfloat16", mps)


def test_the_peak_of_memory_is_known_here():
    assert 50e6 < device.peak_memory(CPU) < 1e12

"""Devices, and what they can do."""

import sys

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.runtime import device
from gpt2.runtime.precision import resolve
from gpt2.runtime.world import _device, world

CPU = torch.device("cpu")


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
    assert resolve("auto", mps) == "float32" and not device.can_compile("auto")
    for new_enough in (True, False):
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version, new=new_enough: new)
        if new_enough:
            assert resolve("bfloat16", mps) == "bfloat16"
        else:
            with pytest.raises(InputError, match="^precision = 'bfloat16': this mps supports only float32$"):
                resolve("bfloat16", mps)


def test_the_peak_of_memory_is_known_here():
    assert 50e6 < device.peak_memory(CPU) < 1e12


@pytest.mark.parametrize(
    ("setting", "length", "expected"),
    [("auto", 256, 16), ("auto", 1024, 4), ("auto", 300, 8), ("auto", 9999, 1), (3, 256, 3)],
)
def test_the_size_of_a_micro_batch_follows_from_its_shape(setting, length, expected):
    assert device.micro_batch_by_shape(setting, length, CPU) == expected

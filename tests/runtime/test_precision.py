"""The precision that the params ask for, where the hardware has it."""

import sys

import pytest
import torch

from gpt2.common.errors import InputError
from gpt2.runtime import precision
from gpt2.runtime.precision import computing, resolve

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc/cpuinfo")
def test_a_torch_without_capabilities_finds_the_same_precision(monkeypatch):
    expected = resolve("auto", CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve("auto", CPU) == expected


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16", "avx2"])
def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch, feature):
    monkeypatch.setattr(precision, "cpu_features", lambda: {"fma", feature})
    assert resolve("float32", CPU) == "float32" and resolve("float16", CPU) == "float16"
    assert resolve("auto", CPU) == ("float32" if feature == "avx2" else "bfloat16")
    if feature == "avx2":
        with pytest.raises(InputError, match="^precision = 'bfloat16': this cpu supports only float32, float16$"):
            resolve("bfloat16", CPU)


@pytest.mark.parametrize(
    ("capability", "bfloat16", "auto", "refused"),
    [((9, 0), True, "bfloat16", None), ((8, 6), True, "bfloat16", None), ((7, 5), False, "float16", "tf32")],
    ids=["H100", "RTX 3090", "T4"],
)
def test_a_card_without_bfloat16_computes_in_float16(monkeypatch, capability, bfloat16, auto, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    assert resolve("auto", CUDA) == auto
    if refused:
        with pytest.raises(InputError, match="^precision = 'tf32': this cuda supports only float32, float16$"):
            resolve(refused, CUDA)


def test_float32_excludes_tf32_and_torch_s_setting_is_restored():
    torch.set_float32_matmul_precision("medium")
    try:
        for name, expected in (("float32", "highest"), ("tf32", "high"), ("bfloat16", "highest")):
            with computing(name, CPU):
                assert torch.get_float32_matmul_precision() == expected
                assert torch.is_autocast_enabled("cpu") == (name == "bfloat16")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")

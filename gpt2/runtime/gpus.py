"""GPUs that people train on: speed and memory, from manufacturers' data sheets."""

from typing import NamedTuple

USABLE = 0.9  # share of a GPU's memory that training plans with; the rest is for CUDA, NCCL and gaps of the allocator


class Gpu(NamedTuple):
    """A GPU model."""

    name: str  # as CUDA reports it
    teraflops: float  # dense 16-bit products per second with float32 sums, in units of 10^12 operations
    gigabytes: int  # memory
    bfloat16: bool = True  # otherwise its 16-bit precision is float16

    @property
    def peak_flops(self) -> float:
        """Dense 16-bit operations per second."""
        return self.teraflops * 1e12


GPUS = {
    "b200": Gpu("NVIDIA B200", 2250, 180),
    "gh200": Gpu("NVIDIA GH200 480GB", 989, 96),
    "h200": Gpu("NVIDIA H200", 989, 141),
    "h100": Gpu("NVIDIA H100 80GB HBM3", 989, 80),
    "h100-nvl": Gpu("NVIDIA H100 NVL", 835, 94),
    "h100-pcie": Gpu("NVIDIA H100 PCIe", 756, 80),
    "a100": Gpu("NVIDIA A100-SXM4-80GB", 312, 80),
    "a100-40gb": Gpu("NVIDIA A100-SXM4-40GB", 312, 40),
    "a100-pcie": Gpu("NVIDIA A100 80GB PCIe", 312, 80),
    "l40s": Gpu("NVIDIA L40S", 362, 48),
    "l4": Gpu("NVIDIA L4", 121, 24),
    "a10g": Gpu("NVIDIA A10G", 70, 24),
    "rtx4090": Gpu("NVIDIA GeForce RTX 4090", 165, 24),
    "rtx3090": Gpu("NVIDIA GeForce RTX 3090", 71, 24),
    "v100": Gpu("Tesla V100-SXM2-16GB", 125, 16, bfloat16=False),  # needs a torch for CUDA 12
    "t4": Gpu("Tesla T4", 65, 15, bfloat16=False),  # 16 GB, of which error correction takes a part
}

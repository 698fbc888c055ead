"""What this machine has: cores, memory, matrix units; and how much memory a step took. Nothing here decides anything."""

import ctypes
import os
import platform
import sys
from pathlib import Path


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def threads(wanted: int) -> int:
    """The number of threads for a setting of `machine.threads` (0: one a core)."""
    return wanted or cores()


def memory_bytes() -> int:
    """Memory that this process may use, in bytes: the machine's, or less in a container; 0 where the system does not say."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return physical


def has_bf16_matrix_units() -> bool:
    """Whether bfloat16 is the fast format here: an NVIDIA GPU, or a CPU with AMX tiles. Answered without torch.

    On CPUs without AMX, oneDNN's bfloat16 kernels run at about half the speed of float32 (measured; docs/train.md).
    """
    if Path("/dev/nvidia0").exists():
        return True
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False


def precision(wanted: str) -> str:
    """The number format of training for a setting of `train.precision`: bf16, fp16 or fp32; `auto` takes the fast one here.

    NVIDIA GPUs before compute capability 8 (T4, V100) have no bfloat16 units, but fast float16 ones.
    """
    if wanted != "auto":
        return wanted
    if not has_bf16_matrix_units():
        return "fp32"
    return "fp16" if 0 < gpu_generation() < 8 else "bf16"


def gpu_generation() -> int:
    """Major compute capability of the first CUDA GPU that can be used; 0 where there is none."""
    if not Path("/dev/nvidia0").exists():
        return 0
    import torch

    return int(torch.cuda.get_device_capability()[0]) if torch.cuda.is_available() else 0


def optimiser(wanted: str) -> str:
    """The optimiser for a setting of `train.optimiser`: the 8-bit ones are for a CUDA GPU, where they save memory; elsewhere they are slow."""
    if wanted == "adamw":
        return wanted
    import torch

    return wanted if torch.cuda.is_available() else "adamw"


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks of up to 32 MB instead of handing pages back: a training step asks for the same ones again.

    Worth a tenth of a step and more on a CPU (docs/train.md); larger blocks, logits above all, go back at once, which keeps the
    peak down. Does nothing on other systems.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        mmap_threshold, trim_threshold = -3, -1
        libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def give_back_memory() -> None:
    """Hand freed pages back to the system, at the end of a step."""
    import gc

    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory() -> None:
    """Start measuring peak resident memory afresh (Linux; elsewhere the peak stays the process's)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Peak resident memory of this process since the last reset, in MB (10^6 bytes); 0 where it cannot be read."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return 0.0

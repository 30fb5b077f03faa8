"""The device that a name stands for on this machine."""

import torch


def device_here(name: str) -> str:
    """A device that a config names, or the CPU where that is CUDA and this machine has none.

    Raises:
        ValueError: if there is no such kind of device.
    """
    return "cpu" if _parse(name).type == "cuda" and not torch.cuda.is_available() else name


def check_device(name: str) -> None:
    """
    Raises:
        ValueError: for a device that is unknown or not there, in one line.
    """
    chosen = _parse(name)
    count = _num_gpus()
    if chosen.type == "cuda" and not count:
        raise ValueError(f"device {name!r}: there is no CUDA GPU here; give cpu")
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        raise ValueError(f"device {name!r} is not among the CUDA GPUs here; give {_choices()}")
    try:
        if chosen.type == "meta":
            raise RuntimeError("it holds no values")
        if chosen.type != "cuda":
            torch.empty(0, device=chosen)
    # PyTorch was built without most of the devices that it knows, and says so in each of these ways.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(_unknown(name)) from error


def _parse(name: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(_unknown(name)) from error


def _unknown(name: str) -> str:
    return f"device {name!r} is unknown or not there; give {_choices()}"


def _choices() -> str:
    return " or ".join(["cpu", *(f"cuda:{index}" for index in range(_num_gpus()))])


def _num_gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0

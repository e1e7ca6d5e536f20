"""``calcarine doctor``: versions, hardware, and which optional parts are missing."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tempfile
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

__all__ = ["doctor"]

# What each extra of the package is for; the packages themselves are read from its metadata.
_PURPOSES = {
    "train": "TensorBoard logs of `train`",
    "data": "sample photographs and named data sets, for every command",
    "spectral": "CIE tables of `colour.ConeSpace`, for every command; spectral scenes",
    "events": "event-camera recordings and exchange of spiking networks",
    "viz": "figures and movies: `retina`, `see`, `colour-match`, `report`",
    "app": "the graphical application",
    "distributed": "searches and training on a cluster",
    "loggers": "`train --set training.loggers=[local,comet]` and other trackers",
    "oracle": "comparison with other libraries, in tests and benchmarks",
    "test": "the test suite",
    "lint": "development",
    "docs": "building the documentation",
}
_DEVELOPMENT = frozenset({"oracle", "test", "lint", "docs"})
_COMPILERS = ("c++", "g++", "clang++", "cl")
_KERNELS = {
    "map": "v1._local_compiler",
    "spike": "spiking._scan",
    "net": "models._cordsnet_kernel",
    "color": "cortex._reflect_kernel",
    "resize": "cortex._upsampling",
    "places": "cortex._coupling_kernel",
    "warp": "cortex._reading_kernel",
    "search": "cortex._sliding_kernel",
}


def doctor(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Show versions, hardware, and which optional parts are missing.

    Paste the output into a bug report. Nothing is changed, except that the kernels of cortical
    maps, spiking neurons, CordsNet and the colour cortex are built where they have not been yet.

    ```
    calcarine doctor
    calcarine doctor --json
    ```

    Args:
        as_json: Print everything as JSON.
    """
    facts = examine()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts)


def examine() -> dict[str, Any]:
    """Return everything the doctor found, as plain data."""
    core, extras = _requirements()
    return {
        "calcarine": metadata.version("calcarine"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in core},
        "hardware": _hardware(),
        "compiler": next((found for c in _COMPILERS if (found := shutil.which(c))), None),
        "kernels": {
            name: import_module(f"calcarine.{room}").kernel_status()
            for name, room in _KERNELS.items()
        },
        "cache": _cache(),
        "extras": {
            name: {
                "for": _PURPOSES.get(name, ""),
                "development": name in _DEVELOPMENT,
                "missing": [each for each in packages if _version(each) is None],
            }
            for name, packages in extras.items()
        },
    }


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the packages that calcarine always needs, and those of every extra."""
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in metadata.requires("calcarine") or ():
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        if name is not None:
            (extras.setdefault(extra[1], []) if extra else core).append(name[0])
    return core, extras


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    import torch

    from calcarine.training.precision import resolve_precision

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    return {
        "device": str(device),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": _load(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bf16_matrix_unit": resolve_precision("auto", torch.device("cpu")) == "bf16",
        "precision": resolve_precision("auto", device),
    }


def _cache() -> dict[str, Any]:
    """Try the folder that retinas are kept in, leaving nothing behind."""
    from calcarine.files import cache_folder

    folder = cache_folder()
    if folder is None:
        return {"folder": None, "writable": False}
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError:
        return {"folder": str(folder), "writable": False}
    return {"folder": str(folder), "writable": True}


def _load() -> float | None:
    """Return how many programs wanted a core in the last minute, where the system tells."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _show(facts: dict[str, Any]) -> None:
    hardware, cache = facts["hardware"], facts["cache"]
    print(f"calcarine {facts['calcarine']}, Python {facts['python']}, {facts['platform']}")
    print(f"installed in {Path(sys.prefix)}\n")
    for name, version in facts["packages"].items():
        print(f"  {name:<14}{version or 'MISSING: pip install --force-reinstall calcarine'}")
    print(f"\ncomputes on   {', '.join(hardware['gpus']) or 'the CPU (no CUDA GPU found)'}")
    print(f"CPU           {hardware['cpu']}, {hardware['cores']} cores, ", end="")
    print(f"{hardware['threads']} threads (OMP_NUM_THREADS changes that)")
    if hardware["threads"] > 1 and (hardware["load"] or 0) > 0.5 * hardware["cores"]:
        print("              busy with other programs: OMP_NUM_THREADS=1 may be many times faster")
    unit = "yes" if hardware["bf16_matrix_unit"] else "no"
    print(f"precision     {hardware['precision']} for learning (AMX unit for bf16: {unit})")
    print(f"compiler      {facts['compiler'] or 'none; nothing here needs one to work'}")
    for name, status in facts["kernels"].items():
        print(f"{name + ' kernel':13s} {status}")
    folder = cache["folder"] or "none"
    print(f"cache         {folder}, {'writable' if cache['writable'] else 'NOT writable'}")
    if not cache["writable"]:
        print("              foveal retinas are computed anew each time; set CALCARINE_CACHE")
    _show_extras(facts["extras"])


def _show_extras(extras: dict[str, Any]) -> None:
    print("\noptional parts")
    for name, extra in extras.items():
        missing = ", ".join(extra["missing"])
        print(f"  {name:<14}{f'missing {missing}' if missing else 'complete'}: {extra['for']}")
    wanted = [n for n, e in extras.items() if e["missing"] and not e["development"]]
    if wanted:
        print(f"\nTo add them: pip install 'calcarine[{','.join(wanted)}]'")

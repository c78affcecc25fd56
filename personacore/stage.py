"""How a stage runs: one line for a user's error, and its machine-bound figures in a file of their own."""

import errno
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from personacore.errors import UserError
from personacore.files import write_json

Speed = dict[str, object]


def run_stage(name: str, main: Callable[[Speed], None]) -> None:
    """Run a stage's `main`, which may add figures to the mapping it is given, and write metrics/speed/NAME.json.

    Wall time, speed and memory belong to the machine, so no other file holds them and DVC does not track this one.
    """
    speed: Speed = {"stage": name, "cpu": _processor(), "cores": os.cpu_count()}
    started = time.monotonic()
    try:
        main(speed)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = "the disk is full: free some space and rerun"
        elif error.filename:  # an input that is gone, a folder that may not be written: nothing that a traceback explains
            message = f"{error.filename}: {error.strerror}"
        else:
            raise
        print(f"{name}: {message}", file=sys.stderr)
        raise SystemExit(1) from None
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    if os.environ.get("RANK", "0") != "0":  # of several processes, the first reports
        return
    speed |= {"wall_seconds": round(time.monotonic() - started, 3), "peak_memory_megabytes": round(peak * unit / 2**20, 1)}
    write_json(Path("metrics/speed") / f"{name}.json", speed)


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

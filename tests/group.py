"""Three processes of a script that compute together, with gloo on this machine, and two of them that go on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ganzoo.training import spoken

TESTS = Path(__file__).parent


def environment(**more: str) -> dict[str, str]:
    """That of a fresh process with one thread."""
    kept = {name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE", "LOCAL_RANK"}}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS), **more}


def run_three(script: str, out: Path, codes: tuple[int, int, int], **more: str) -> None:
    """``python tests/SCRIPT OUT PORT`` in three processes, from start to end; PORT is that of :func:`go_on_as_two`."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port, later = (str(each.getsockname()[1]) for each in (server, other))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "3", **more}
    if sys.platform == "linux":
        place["GLOO_SOCKET_IFNAME"] = "lo"
    started = [
        subprocess.Popen(
            [sys.executable, TESTS / script, out, later],
            env=environment(**place, RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for rank in range(3)
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert tuple(process.returncode for process in started) == codes, "\n".join(errors)


def go_on_as_two(port: str) -> None:
    """The first two processes meet anew, without the third."""
    os.environ |= {"WORLD_SIZE": "2", "MASTER_PORT": port}
    spoken._stores.clear()


def tell(out: Path, world: int, rank: int, found: dict[str, Any]) -> None:
    """Leave what one of ``world`` processes found."""
    (out / f"{world}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def read(out: Path, world: int) -> list[dict[str, Any]]:
    """What each of ``world`` processes found."""
    return [json.loads((out / f"{world}-{rank}.json").read_text(encoding="utf-8")) for rank in range(world)]

"""The processes that decode images, by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganzoo.data import list_images
from ganzoo.data.streamed import decode_in_order
from ganzoo.data.workers import Decoders


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two images."""
    root = tmp_path / "photos" / "a"
    root.mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (18, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
    return root.parent


def test_threads_decode_until_a_process_has_started(photos: Path) -> None:
    decoders = Decoders(list_images(photos), (3, 16, 16), "crop", 1)
    first = next(decoders.begin([0, 1]).result())
    assert decoders._threads is not None
    decoders._awake.result()
    decoders._threads = None
    second = next(decoders.begin([0, 1]).result())
    assert decoders._threads is None
    assert np.array_equal(first.pixels, second.pixels)
    decoders.close()


KILLED_WHILE_SENDING = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from ganzoo.data import list_images
from ganzoo.data.workers import Decoders
decoders = Decoders(list_images(Path(sys.argv[1])), (3, 500, 500), "crop", 2)
numbers = [0, 1] * 50
decoders.begin(numbers[:1]).result()
decoders._awake.result()
begun = decoders.begin(numbers)
time.sleep(0.02)
sys.setswitchinterval(1000)  # nobody takes what is sent: a process that has decoded something waits in the middle of it
busy = time.monotonic()
while time.monotonic() < busy + 2:
    pass
for worker in decoders._pool._processes:  # one of them sends, and others wait until it has sent
    os.kill(worker, signal.SIGKILL)
sys.setswitchinterval(0.005)
pieces = list(begun.result())
assert not decoders.workers, "nobody noticed"
pixels = np.concatenate([piece.pixels for piece in pieces])
assert len(pixels) == len(numbers)
assert (pixels[::2] == pixels[0]).all() and (pixels[1::2] == pixels[1]).all()
decoders.close()
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process as POSIX does")
def test_a_worker_that_is_killed_while_it_sends_is_noticed(photos: Path, tmp_path: Path) -> None:
    script = tmp_path / "kill.py"
    script.write_text(KILLED_WHILE_SENDING)
    done = subprocess.run(
        [sys.executable, script, photos],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == "done\n", done.stderr
    assert "A process that decodes images was killed" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process as POSIX does")
def test_no_image_is_lost_where_threads_take_over_from_a_killed_process(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)  # more threads than there were processes
    decoders = Decoders(list_images(photos), (3, 16, 16), "crop", 1)
    decoders.piece = 1
    numbers = np.arange(40) % len(decoders.files)
    seen: list[int] = []
    for given, piece in decode_in_order(numbers, decoders):
        seen += given.tolist()
        assert piece.good == [0]
        if len(seen) == 3:
            decoders._awake.result()
            assert decoders._pool is not None
            for process in decoders._pool._processes.values():  # type: ignore[attr-defined]
                process.kill()
    assert seen == numbers.tolist()
    assert not decoders.workers
    decoders.close()


LEFT_ALONE = """
import os, signal, sys
from pathlib import Path
from ganzoo.data import list_images
from ganzoo.data.workers import Decoders
decoders = Decoders(list_images(Path(sys.argv[1])), (3, 16, 16), "crop", 1)
next(decoders.begin([0]).result())
decoders._awake.result()
print(*(process.pid for process in decoders._pool._processes.values()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="looks for a process as POSIX does")
def test_workers_end_with_the_process_that_started_them(photos: Path, tmp_path: Path) -> None:
    script = tmp_path / "without_a_guard.py"
    script.write_text(LEFT_ALONE)
    done = subprocess.run([sys.executable, script, photos], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    worker = int(done.stdout)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{worker}/stat")
        if state.is_file() and ") Z " in state.read_text():
            return  # dead; whoever inherited it has not looked yet
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived the process that it worked for")

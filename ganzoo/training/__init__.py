"""The run: device, loop, checkpoints, observers. ``ganzoo.train`` and ``ganzoo run`` both end in ``start``."""

"""Sweeps: every combination of some settings, each a run of its own. Import the modules; this one stays empty of
names, and none of them imports torch."""

"""What ``bench.py`` measures: one module for each part, and what they share.

``timing`` lets contenders take turns, ``context`` holds what a part needs, ``workloads`` the settings that are
measured, ``contenders`` the loops themselves, ``machine`` the facts that figures depend on. ``parts`` lists the parts.
"""

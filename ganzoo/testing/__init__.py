"""The conformance kit: what every component promises, as checks for your own tests. Three lines, in any pytest::

    import pytest
    from ganzoo.testing import checks_for

    @pytest.mark.parametrize("check", checks_for("generator", "acme/tiny", width=8), ids=str)
    def test_tiny(check):
        check()

A check is a plain function that raises an ``AssertionError``, whose sentence names the component, what is wrong, and
what to do; so any test runner will do, and ``check_component("generator", "acme/tiny")`` makes all of them at once.
Options are given as to ``ganzoo.create``: small ones keep the checks quick.

Built-in components pass the same checks.
"""

from ganzoo.testing.checks import check_component, checks_for
from ganzoo.testing.subject import SPECS, Check
from ganzoo.testing.training import noise, take_steps

__all__ = ["SPECS", "Check", "check_component", "checks_for", "noise", "take_steps"]

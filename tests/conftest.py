"""The order of the tests, and what none of them leaves behind."""

import sys

import pytest
from hypothesis import settings

# The same examples every time, so that red means a change. To search on: `pytest --hypothesis-profile default`.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

#: By far the longest: started first, so that no worker sits idle while the other is still at them.
LONGEST = ("test_rounds", "test_smollm2", "test_resume", "test_arms")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def no_plugin_stays_registered():
    """A run's process has the plugins of one config. Axolotl 0.21 validates every later one with what is registered."""
    yield
    if axolotl := sys.modules.get("axolotl.integrations.base"):
        axolotl.PluginManager.get_instance().plugins.clear()

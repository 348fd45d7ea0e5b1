"""A plugin that can't be imported: Axolotl logs the exception and goes on without the plugin."""

import sys

import pytest
from axolotl.integrations.base import PluginManager


@pytest.mark.parametrize(
    "name, module", [("ArtePlugin", "arte_plugin.plugin"), ("Float32Weights", "arte_plugin.training.float32_weights")]
)
def test_a_plugin_that_can_t_be_imported_ends_the_run(name, module, monkeypatch, capsys):
    """And not: the teacher is trained as if the YAML had never asked for ARTE."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(PluginManager.get_instance(), "plugins", {})
    with pytest.raises(SystemExit) as ended:
        PluginManager.get_instance().register(f"arte_plugin.{name}")
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert f"arte: arte_plugin.{name} can't be imported: " in said and module in said

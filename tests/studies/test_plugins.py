"""Plugins: modules, files and entry points, in this process and in workers."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.studies import plugins
from logitlab.studies.plugins import import_entry_points, import_plugins, plugins_of, worker_plugin
from logitlab.training.stages import STAGES

STAGE = """
from logitlab.training.stages import register_stage

@register_stage("{name}")
def stage(stage):
    return {{}}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with one entry point on the path."""

    def make(distribution, point, module, text):
        folder = tmp_path / "site"
        folder.mkdir(exist_ok=True)
        (folder / f"{module}.py").write_text(text)
        information = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[logitlab.plugins]\n{point} = {module}\n")
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return folder

    before = set(STAGES.names()), set(sys.modules), set(plugins._TRIED)
    yield make
    for name in set(STAGES.names()) - before[0]:
        STAGES.forget(name)
    for name in set(sys.modules) - before[1]:
        if name.startswith("entry_plugin"):
            del sys.modules[name]
    plugins._TRIED.clear()
    plugins._TRIED.update(before[2])


def test_entry_points_are_imported_once(install):
    install("entry-good", "good", "entry_plugin_good", STAGE.format(name="entry_stage"))
    assert [point.name for point in entry_points(group="logitlab.plugins")] == ["good"]
    assert import_entry_points() == ()
    assert "entry_stage" in STAGES
    STAGES.forget("entry_stage")
    assert import_entry_points() == ()
    assert "entry_stage" not in STAGES


def test_a_broken_entry_point_is_a_warning_that_names_its_distribution(install):
    install("entry-broken", "broken", "entry_plugin_broken", "import no_such_module_at_all")
    install("entry-good", "good", "entry_plugin_good", STAGE.format(name="entry_stage"))
    words = (
        r"^The plugin 'broken' \(entry_plugin_broken\) of 'entry-broken' cannot be imported: ModuleNotFoundError: No "
        r"module named 'no_such_module_at_all'\. What it registers is not known; update or uninstall it\.$"
    )
    with pytest.warns(UserWarning, match=words):
        import_plugins(())
    assert "entry_stage" in STAGES
    # It is told once.
    import_plugins(())


@pytest.mark.slow
def test_a_worker_imports_entry_points_too(install, tmp_path):
    folder = install("entry-good", "good", "entry_plugin_good", STAGE.format(name="entry_stage"))
    code = (
        "import multiprocessing, sys\n"
        "from logitlab.studies.plugins import import_plugins\n"
        "from logitlab.training.stages import STAGES\n"
        "def work(pipe):\n"
        "    import_plugins(())\n"
        "    pipe.send(STAGES.names())\n"
        "if __name__ == '__main__':\n"
        "    ours, theirs = multiprocessing.Pipe()\n"
        "    process = multiprocessing.get_context('spawn').Process(target=work, args=(theirs,))\n"
        "    process.start(); print(ours.recv()); process.join()\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['entry_stage']"


def test_a_plugin_that_cannot_be_imported_is_told():
    with pytest.raises(ConfigurationError) as fault:
        import_plugins(["no_such_plugin", "nowhere/plugin.py"])
    assert len(fault.value.faults) == 2
    assert fault.value.faults[0].startswith("Cannot import the plugin 'no_such_plugin': ModuleNotFoundError")
    assert fault.value.faults[1] == "Cannot import the plugin 'nowhere/plugin.py': there is no such file."


def test_what_a_fresh_process_must_import(tmp_path, monkeypatch):
    (tmp_path / "plugin_file_one.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("plugin_file_one")
    path = str(tmp_path / "plugin_file_one.py")
    assert worker_plugin("plugin_file_one") == path
    assert worker_plugin("logitlab.studies.plugins") == "logitlab.studies.plugins"
    assert worker_plugin("__main__") is None
    assert plugins_of("plugin_file_one,logitlab.studies.plugins") == (path, "logitlab.studies.plugins")
    assert plugins_of("plugin_file_one,__main__") is None
    assert plugins_of("never_imported") is None
    del sys.modules["plugin_file_one"]

"""A study from its arguments to its result; the trials themselves are fakes."""

import sys
from types import ModuleType

import pytest

from logitlab.config.errors import ConfigurationError, DataError, InputError, LogitLabError
from logitlab.records import Store
from logitlab.studies import DEFAULT_HEADS, Comparison, Silent, compare, nearest_preset


def faults_of(run, *heads, **changes):
    with pytest.raises(ConfigurationError) as fault:
        run(*heads, **changes)
    return fault.value.faults


def test_every_head_meets_every_seed(study, diary):
    comparison = study("softmax", "cosine:kappa=20", "mine", seeds=2)
    pairs = [(record["config"]["head"]["name"], record["config"]["seed"]) for record in comparison.records]
    assert pairs == [(name, seed) for seed in (0, 1) for name in ("softmax", "cosine", "mine")]
    assert [row.label for row in comparison.table.rows] == ["softmax", "cosine:kappa=20", "mine"]
    assert comparison.failed == ()
    assert comparison.seconds > 0
    assert diary.events[0] == ("start", 6, 6, 1)
    assert diary.events[-1] == ("stop",)


def test_the_trial_records_what_was_resolved(study):
    (record,) = study("cosine:preset=auto", seeds=[7], augmentation=None).records
    assert record["config"]["seed"] == 7
    assert record["config"]["head"]["parameters"] == {"preset": "cifar10"}
    assert record["config"]["training"]["augmentation"] is not None
    assert len(record["config"]["data_fingerprint"]) == 64


def test_what_is_done_is_not_run_again(study, diary):
    first = study("softmax", seeds=1)
    diary.events.clear()
    second = study("softmax", "mine", seeds=2)
    assert diary.events[0] == ("start", 4, 3, 1)
    assert first.records[0] == second.records[0]
    diary.events.clear()
    study("softmax", "mine", seeds=2)
    assert diary.events == [("start", 4, 0, 1), ("stop",)]


def test_nothing_to_do_starts_no_process(study, diary):
    study("softmax", seeds=1)
    study("softmax", seeds=1, executor="process")
    assert diary.events[-2:] == [("start", 1, 0, 1), ("stop",)]


def test_a_damaged_record_is_told_and_run_again(study, diary):
    (record,) = study("softmax", seeds=1).records
    path = Store(study().folder).trial_folder(record["identity"]) / "record.json"
    path.write_text(path.read_text()[:50])
    diary.events.clear()
    assert study("softmax", seeds=1).records[0]["result"] == record["result"]
    (notice,) = (event[1] for event in diary.events if event[0] == "notice")
    assert "is not whole JSON" in notice
    assert notice.endswith("The trial runs again.")


def test_an_edited_head_is_a_new_trial(study, plugin, diary):
    study("mine", seeds=1)
    plugin.write_text(plugin.read_text() + "\nSOMETHING = 1\n")
    del sys.modules[plugin.stem]
    from logitlab.heads import registry

    registry._REGISTERED.clear()
    import linecache

    linecache.clearcache()
    diary.events.clear()
    study("mine", seeds=1)
    assert diary.events[0] == ("start", 1, 1, 1)


def test_failures_stand_beside_the_others_and_are_tried_again(study, diary):
    comparison = study("softmax", "mine:behaviour=raise", seeds=1)
    (failed,) = comparison.failed
    assert failed["error"]["message"] == "the head broke"
    assert ("ended", failed["identity"], True) in diary.events
    assert "Failed: mine:behaviour=raise, seed 0: the head broke" in str(comparison)
    assert study("softmax", "mine:behaviour=raise", seeds=1).failed[0]["error"]["attempt"] == 2


def test_processes_run_heads_of_a_users_own(study):
    comparison = study("softmax", "mine", executor="process", workers=1, seeds=1)
    assert [row.label for row in comparison.table.rows] == ["softmax", "mine"]
    pids = {record["provenance"]["pid"] for record in comparison.records}
    assert len(pids) == 1
    assert pids != {__import__("os").getpid()}


def test_a_head_that_lives_in_a_notebook_runs_here_with_a_notice(study, own_modules, diary):
    from logitlab.heads import Head, register_head

    def handmade(in_features, num_classes):
        return Head(in_features, num_classes)

    handmade.__module__ = "__main__"
    register_head("handmade")(handmade)
    comparison = study("handmade", executor="process", seeds=1, plugins=())
    assert comparison.records[0]["provenance"]["pid"] == __import__("os").getpid()
    (notice,) = (event[1] for event in diary.events if event[0] == "notice")
    assert "No other process can import 'handmade'" in notice


def test_every_fault_is_told_before_anything_runs(study, tmp_path, diary):
    (tmp_path / "file").touch()
    faults = faults_of(
        study,
        "sofmax",
        "label_smoothing:alpha=3",
        "cosine:",
        "softmax",
        "softmax",
        "mine:behaviour=unbuildable",
        data="/no/such/folder",
        backbone="smal_cnn",
        seeds=0,
        epochs=-1,
        seedz=3,
        validation_fraction=2.0,
        out=tmp_path / "file" / "runs",
        executor="rai",
        workers=0,
        device="nonsense",
        plugins=["no_such_plugin_here", str(tmp_path / "plugin_of_mine.py")],
    )
    expected = [
        "Cannot import the plugin 'no_such_plugin_here': ModuleNotFoundError",
        "'epochs' must be greater than or equal to 1. Got -1.",
        "Unknown option 'seedz'; did you mean 'seeds'?",
        "'validation_fraction' must be less than 1. Got 2.0.",
        f"'out' must be a folder. '{tmp_path / 'file'}' is a file",
        "Unknown executor 'rai'; did you mean 'ray'? Known: process, ray, serial, slurm.",
        "'workers' must be an int of at least 1. Got 0.",
        "The device 'nonsense' cannot be used",
        "'seeds' must be an int of at least 1. Got 0.",
        "Unknown backbone 'smal_cnn'; did you mean 'small_cnn'?",
        "Unknown head 'sofmax'; did you mean 'softmax'?",
        "The head 'label_smoothing:alpha=3' is wrong. The 'alpha' parameter",
        "Nothing follows the colon in the head 'cosine:'",
        "The head 'softmax' is given twice",
        "The head 'mine:behaviour=unbuildable' cannot be built: KeyError: 'no such key'.",
    ]
    assert len(faults) == len(expected)
    for fault, start in zip(faults, expected):
        assert fault.startswith(start)
        assert "\n" not in fault
    assert diary.events == [("stop",)]


def test_one_head_written_in_two_ways_is_told(study):
    (fault,) = faults_of(study, "cosine", "cosine:kappa=20")
    assert fault == "'cosine' and 'cosine:kappa=20' are the same head. Give it once."


def test_the_table_calls_a_head_as_it_was_asked_for_now(study):
    first, second = study("cosine"), study("cosine:tau=0.05")
    assert [row.label for row in first.table.rows] == ["cosine"]
    assert [row.label for row in second.table.rows] == ["cosine:tau=0.05"]
    assert [record["identity"] for record in first.records] == [record["identity"] for record in second.records]
    assert [record["result"] for record in first.records] == [record["result"] for record in second.records]


def test_a_missing_folder_is_told_beside_the_others(study):
    faults = faults_of(study, "sofmax", "cosine:kappa=-1", data="/no/such/folder", epochs=0)
    assert [fault.split("'")[1] for fault in faults] == ["epochs", "/no/such/folder", "sofmax", "cosine:kappa=-1"]


def test_faults_that_hang_on_missing_data_are_not_invented(study):
    """Ten class weights may be right; without the data nobody knows."""
    weights = "[" + ",".join(["1.0"] * 7) + "]"
    faults = faults_of(study, f"softmax:class_weight={weights}", data="/no/such/folder")
    assert len(faults) == 1
    assert "no/such/folder" in faults[0]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"heads": []}, "No head to compare"),
        ({"seeds": [0, 0]}, "a list of different numbers"),
        ({"seeds": []}, "a list of different numbers"),
        ({"seeds": "3"}, "a list of different numbers"),
        ({"seeds": [-1]}, "a list of different numbers"),
        ({"seeds": True}, "a list of different numbers"),
        ({"train_limit": 5}, "train_limit must be at least the number of classes, 10"),
        ({"backbone": "mlp:widht=3"}, "'mlp' takes no parameter 'widht'"),
        ({"device": "cuda:99"}, "The device 'cuda:99' cannot be used"),
        ({"plugins": ["absent.py"]}, "Cannot import the plugin 'absent.py'"),
        ({"data": ""}, "The name of the data set is empty"),
        ({"data": "a" * 300}, f"Cannot read '{'a' * 300}': File name too long."),
        ({"out": "a" * 300}, f"must be a folder that can be written to. '{'a' * 300}': File name too long;"),
        ({"image_size": 100_000}, "digits: one image resized to 100000x100000 would take"),
        ({"heads": ["softmax:in_features=5"]}, "The head 'softmax' gets 'in_features' from the backbone. Leave it out"),
        ({"heads": ["mine:num_classes=5"]}, "The head 'mine' gets 'num_classes' from the data. Leave it out"),
        ({"backbone": "mlp:widths=[100000000000000]"}, "cannot be built: can't allocate memory: you tried to allocate"),
        ({"device": "hpu"}, "The device 'hpu' cannot be used: No module named 'torch.hpu'. Take 'cpu'"),
        ({"device": "meta"}, "The device 'meta' cannot be used"),
        ({"device": "xla"}, "from the 'XLA' backend. Take 'cpu', or leave it out."),
    ],
)
def test_single_faults(study, changes, complaint):
    (fault,) = faults_of(study, **{"heads": ["softmax"], **changes})
    assert complaint in fault


def test_one_head_may_be_given_without_a_list(study):
    assert len(study(heads="softmax", seeds=1).records) == 1


def test_a_folder_that_cannot_be_written_is_told(study, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (fault,) = faults_of(study, "softmax", out=tmp_path / "runs")
    assert "must be a folder that can be written to" in fault


def test_a_folder_that_takes_no_file_is_told_before_the_first_trial(study, diary, tmp_path):
    # Permissions let root write everywhere; a file in the place of the trials' folder stops anybody.
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "trials").touch()
    with pytest.raises(LogitLabError, match=r"^Cannot write the records in '.*runs': File exists\. Give") as fault:
        study("softmax")
    assert "\n" not in str(fault.value)
    assert diary.events == [("stop",)]


def test_a_finished_study_needs_no_folder_that_can_be_written(study, monkeypatch):
    def refuse(self):
        raise OSError(30, "Read-only file system")

    first = study("softmax", seeds=1)
    monkeypatch.setattr("logitlab.records.Store.prove_writable", refuse)
    assert study("softmax", seeds=1).records == first.records
    with pytest.raises(LogitLabError, match="Read-only file system"):
        study("softmax", seeds=2)


def test_an_unreadable_folder_of_images_is_told_beside_the_others(study, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    faults = faults_of(study, "sofmax", data=tmp_path)
    assert faults[0] == f"Cannot read '{tmp_path}': Permission denied. Check the path and who may read it."
    assert faults[1].startswith("Unknown head 'sofmax'")


def test_what_head_and_data_cannot_say_twice_is_told_together(study):
    faults = faults_of(study, "softmax:in_features=5,num_classes=3")
    assert [fault.split("'")[3] for fault in faults] == ["in_features", "num_classes"]


@pytest.mark.parametrize("device", ["xla", "vulkan", "mps", "maia", "hpu", "privateuseone"])
def test_the_fault_of_a_device_is_one_short_line(study, device):
    (fault,) = faults_of(study, "softmax", device=device)
    assert len(fault) < 200
    assert "\n" not in fault


def test_a_disk_that_fills_up_is_told_in_one_line(study, tmp_path, monkeypatch):
    def full(self, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("logitlab.records.Store.write_record", full)
    monkeypatch.setattr("logitlab.records.Store.write_error", full)
    with pytest.raises(LogitLabError, match="Cannot write the records in .*No space left") as fault:
        study("softmax")
    assert not isinstance(fault.value, ConfigurationError)


def test_data_that_turn_out_unreadable_stop_the_study(study, diary):
    with pytest.raises(DataError, match="cat/1"):
        study("mine:behaviour=data", "softmax")
    assert diary.events[-1] == ("stop",)


def test_silence_is_the_default(study, capfd):
    study("softmax", seeds=1, progress=None)
    assert capfd.readouterr() == ("", "")


def test_silent_says_nothing(capfd):
    silent = Silent()
    silent.prepare()
    silent.start([], [], 1)
    silent.notice("x")
    silent.trial_started(None)
    silent.epoch(None)
    silent.trial_ended(None, {})
    silent.stop()
    assert capfd.readouterr() == ("", "")


def test_any_fault_of_a_factory_is_told(study, monkeypatch):
    def refuse(*arguments, **options):
        raise InputError("no such shape.")

    monkeypatch.setattr("logitlab.heads.create_head", refuse)
    assert faults_of(study, "softmax") == ("no such shape.",)


@pytest.mark.parametrize(
    ("classes", "preset"),
    [(2, "cifar10"), (10, "cifar10"), (31, "cifar10"), (32, "cifar100"), (316, "cifar100"), (317, "imagenet")],
)
def test_the_nearest_preset_on_a_logarithmic_scale(classes, preset):
    assert nearest_preset(classes) == preset


def test_the_default_heads_exist():
    from logitlab.heads import list_heads

    assert set(DEFAULT_HEADS) <= set(list_heads())
    assert len(DEFAULT_HEADS) == 7
    assert compare.__kwdefaults__["heads"] is None


def record(name, seed, **measures):
    config = {
        "data": {"name": "digits"},
        "data_fingerprint": "f",
        "backbone": {"name": "mlp"},
        "head": {"name": name, "parameters": {}},
        "training": {},
        "seed": seed,
    }
    identity = f"{seed}{name}"
    return {
        "identity": identity,
        "config": config,
        "result": {"test": measures},
        "provenance": {"seconds": 1.0},
    }


@pytest.fixture
def comparison(tmp_path):
    records = [
        record(name, seed, accuracy=accuracy + seed / 1000, nll=nll)
        for name, accuracy, nll in [("softmax", 0.9, 0.2), ("cosine", 0.8, 0.1), ("squared", 0.7, None)]
        for seed in (0, 1, 2)
    ]
    return Comparison(tuple(records), tmp_path, 1.0)


def test_the_best_head_of_a_measure(comparison):
    assert comparison.best() == "softmax"
    assert comparison.best("nll") == "cosine"
    with pytest.raises(InputError, match="Unknown measure 'acuracy'; did you mean 'accuracy'"):
        comparison.best("acuracy")
    with pytest.raises(InputError, match="No finished trial has the measure 'ece'"):
        comparison.best("ece")


def test_how_a_comparison_shows_itself(comparison):
    assert str(comparison).startswith(comparison.table.to_text())
    assert "for accuracy take softmax" in str(comparison)
    assert "- for accuracy take softmax" in comparison.to_markdown()
    html = comparison._repr_html_()
    assert html.count("<table") == 1
    assert "<li>for accuracy take softmax" in html
    assert "records" not in repr(comparison)


def test_a_module_of_a_package_is_imported_by_its_name(tmp_path, own_modules, monkeypatch):
    from logitlab.studies.plugins import import_plugins, worker_plugin

    package = tmp_path / "plugin_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("VALUE = 1")
    monkeypatch.chdir(tmp_path)
    import_plugins(["plugin_package.inner"])
    assert worker_plugin("plugin_package.inner") == "plugin_package.inner"
    assert worker_plugin("plugin_package") == "plugin_package"
    assert worker_plugin("__main__") is None
    assert worker_plugin("plugin_that_is_nowhere") is None
    # The current folder comes last: it must not hide what is installed.
    assert sys.path[-1] == str(tmp_path)


def test_plugins_that_go_wrong_are_all_told(tmp_path, own_modules):
    from logitlab.studies.plugins import import_plugins

    (tmp_path / "plugin_broken.py").write_text("1 / 0")
    (tmp_path / "json.py").write_text("")
    (tmp_path / "plugin_twice.py").write_text("import plugin_beside")
    (tmp_path / "plugin_beside.py").write_text("")
    files = [str(tmp_path / name) for name in ("plugin_broken.py", "json.py", "plugin_twice.py")]
    with pytest.raises(ConfigurationError) as fault:
        import_plugins([*files, files[2]])
    assert len(fault.value.faults) == 2
    assert "ZeroDivisionError: division by zero" in fault.value.faults[0]
    assert "has the name of another module, 'json'" in fault.value.faults[1]
    assert "plugin_broken" not in sys.modules
    assert isinstance(sys.modules["plugin_twice"], ModuleType)


def test_heads_that_take_no_mixed_labels_are_told_before_anything_is_trained(tmp_path):
    with pytest.raises(ConfigurationError) as fault:
        compare(
            "digits", heads=["softmax", "arcface:alpha=0.1", "lsoftmax:loss=sigmoid"], mixup=0.2, out=tmp_path / "runs"
        )
    assert [sentence.split(" cannot")[0] for sentence in fault.value.faults] == [
        "The head 'arcface:alpha=0.1'",
        "The head 'lsoftmax:loss=sigmoid'",
    ]
    assert not (tmp_path / "runs").exists()

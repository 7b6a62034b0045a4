"""``logitlab study``: from options to arguments, from folders to what is printed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fabricated_study import FabricatedStudy, identity, label

from logitlab.cli.main import main
from logitlab.config.errors import ConfigurationError
from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import read_study
from logitlab.records.claims import take_claim
from logitlab.studies import StudyOutcome, gather_results

YAML = """
name: mine
title: Two heads
source: nobody
description: |
  Does the
  second one win?

  | scale | seeds |
  | --- | --- |
  | tiny | 1 |
data: digits
training: {epochs: 2}
heads:
  - softmax
  - head: cosine
    label: "κ = {head.kappa:g}"
    grid: {head.kappa: [5, 10]}
    paper_row: cosine
  - head: cosine
    label: twice
    depends_on: {head.kappa: {of: softmax, measure: validation.kappa_star, times: 2}}
  - head: sigmoid
    search: {parameters: {training.learning_rate: [0.01, 0.1, 1.0]}, seeds: 2}
stages:
  - ood: {sets: [noise]}
claims:
  - {text: Twice is better., source: nobody, rule: above, measure: test.accuracy, rows: [twice], than: softmax}
figures:
  - {title: Every model, kind: dots, measures: [test.accuracy]}
seeds: 3
scales:
  large: {seeds: 5}
  tiny: {seeds: 1}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of a study; the current folder is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOGITLAB_DATA", raising=False)
    Path("mine.yaml").write_text(YAML, encoding="utf-8")
    return "mine.yaml"


@pytest.fixture
def study(tmp_path):
    return FabricatedStudy(tmp_path / "runs")


def shown(capsys, *arguments, code=0):
    assert main([str(each) for each in arguments]) == code
    return capsys.readouterr()


# What runs


@pytest.fixture
def called(monkeypatch, study):
    """Stand in for the engine; remembers how it was called."""
    calls = []

    def run(*arguments, **options):
        calls.append((arguments, options))
        study.finish_all()
        results = gather_results(study.root, study.name)
        return StudyOutcome(results, study.root, study.folder, seconds=12.34, report=study.folder / "report.html")

    monkeypatch.setattr("logitlab.studies.run", run)
    monkeypatch.delenv("LOGITLAB_DATA", raising=False)
    return calls


def test_without_options_the_engines_own_defaults_hold(called, capsys):
    captured = shown(capsys, "study", "run", "w-table-1")
    ((arguments, options),) = called
    assert arguments == ("w-table-1",)
    assert options.pop("progress") is not None
    assert options == {
        "scale": None,
        "executor": None,
        "out": Path("logitlab-runs"),
        "workers": None,
        "device": None,
        "data_root": None,
        "plugins": (),
        "gpus_per_trial": None,
        "processes_per_trial": None,
        "slurm": None,
        "report": True,
        "tensorboard": False,
    }
    assert label(0) in captured.out
    assert "Took 12.3 s. Records and models: " in captured.out
    assert captured.out.endswith("report.html\n")
    assert "\x1b" not in captured.out


def test_every_option_arrives(called, tmp_path, capsys):
    line = (
        f"study run some/file.yaml --scale tiny --executor slurm --out {tmp_path} --workers 3 --device cuda "
        f"--data-root {tmp_path} --plugin one --plugin two.py --no-report --tensorboard --gpus-per-trial 0.5 "
        "--processes-per-trial 2 "
        "--slurm partition=gpu --slurm memory_gb=8 --slurm parameters.slurm_account=abc,def --slurm array_tasks=4"
    )
    shown(capsys, *line.split())
    ((arguments, options),) = called
    del options["progress"]
    assert arguments == ("some/file.yaml",)
    assert options == {
        "scale": "tiny",
        "executor": "slurm",
        "out": tmp_path,
        "workers": 3,
        "device": "cuda",
        "data_root": tmp_path,
        "plugins": ["one", "two.py"],
        "gpus_per_trial": 0.5,
        "processes_per_trial": 2,
        "slurm": {
            "partition": "gpu",
            "memory_gb": 8,
            "parameters": {"slurm_account": "abc,def"},
            "array_tasks": 4,
        },
        "report": False,
        "tensorboard": True,
    }


def test_wrong_slurm_options_are_told_at_once(called, capsys):
    arguments = ["--slurm", "partition", "--slurm", "=4", "--slurm", "a=1", "--slurm", "a=2"]
    captured = shown(capsys, "study", "run", "x", *arguments, code=2)
    assert captured.err.splitlines() == [
        "logitlab: '--slurm' takes KEY=VALUE, such as partition=gpu. Got 'partition'.",
        "logitlab: '--slurm' takes KEY=VALUE, such as partition=gpu. Got '=4'.",
        "logitlab: '--slurm' sets 'a' twice. Set it once.",
    ]
    assert called == []


def test_failed_trials_give_code_1(monkeypatch, study, capsys):
    study.fail(0, 0)

    def run(*arguments, **options):
        results = gather_results(study.root, study.name)
        return StudyOutcome(results, study.root, study.folder, failed=tuple(study.store.records()))

    monkeypatch.setattr("logitlab.studies.run", run)
    captured = shown(capsys, "study", "run", "x", "--no-report", code=1)
    assert "Report:" not in captured.out


def test_faults_of_a_study_are_a_line_each(monkeypatch, capsys):
    def run(*arguments, **options):
        raise ConfigurationError(["one.", "two."])

    monkeypatch.setattr("logitlab.studies.run", run)
    assert shown(capsys, "study", "run", "x", code=2).err == "logitlab: one.\nlogitlab: two.\n"


@pytest.mark.parametrize(("fault", "code"), [(KeyboardInterrupt(), 130), ("terminated", 143)])
def test_an_interrupted_study_says_what_it_keeps(monkeypatch, capsys, fault, code):
    from logitlab.studies.interruption import Terminated

    def run(*arguments, **options):
        raise Terminated if fault == "terminated" else fault

    monkeypatch.setattr("logitlab.studies.run", run)
    captured = shown(capsys, "study", "run", "x", code=code)
    assert captured.err == (
        "logitlab: Interrupted. 0 of 0 trials are finished and kept in 'logitlab-runs'; the same command continues.\n"
    )


def test_on_a_terminal_the_table_is_rich(called, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in shown(capsys, "study", "run", "x").out


def test_retry_runs_what_the_folder_says(called, study, capsys):
    shown(capsys, "study", "retry", study.root, "--executor", "serial", "--workers", "2", "--no-report")
    ((arguments, options),) = called
    assert arguments == (study.definition,)
    assert options["retry_failed"] is True
    assert options["out"] == study.root
    assert (options["executor"], options["workers"], options["report"]) == ("serial", 2, False)


def test_retry_runs_all_studies_or_the_one_that_is_named(called, study, capsys):
    FabricatedStudy(study.root, "other")
    captured = shown(capsys, "study", "retry", study.root)
    assert [arguments[0].name for arguments, _ in called] == ["made-up", "other"]
    assert "Study 'other':\n" in captured.err
    called.clear()
    shown(capsys, "study", "retry", study.root, "--study", "other")
    assert [arguments[0].name for arguments, _ in called] == ["other"]


# What there is


def test_the_presets_are_listed_with_their_sizes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shown(capsys, "study", "list").out
    for name in ("t-table-2", "w-table-1", "w-table-6"):
        assert f"\n{name}  " in "\n" + text
    assert "9 rows, 27 trials" in text
    assert "In 'logitlab-runs'" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_studies_of_a_folder_are_listed(capsys, study, monkeypatch):
    study.finish(0, 0)
    lines = shown(capsys, "study", "list", "--out", study.root).out.splitlines()
    place = lines.index(f"In '{study.root}':")
    assert lines[place + 1 :] == ["  made-up  A made-up study", "    8 trials: 1 done, 0 running, 0 failed, 7 left"]
    monkeypatch.chdir(study.root.parent)
    study.root.rename("logitlab-runs")
    assert "In 'logitlab-runs':" in shown(capsys, "study", "list").out


def test_a_study_is_shown_at_its_scale(file, capsys):
    text = shown(capsys, "study", "show", file).out
    assert text.startswith("mine, at the scale 'large': Two heads\nSource: nobody\n\nDoes the second one win?\n")
    assert "| tiny | 1 |\n" in text
    # Five rows of five seeds; three points of two seeds, and two more of the finer grid.
    assert "Size: 5 rows, 25 trials and a search of at least 10.\n" in text
    assert "Training: epochs = 2\n" in text
    assert "  κ = 10: cosine; head.kappa = 10; 5 seeds\n" in text
    assert "  twice: cosine; head.kappa = 2 times the mean validation.kappa_star of\n" in text
    assert "  sigmoid: coarse_to_fine, at least 5 points of 2 seeds;" in text
    assert "  ood: sets = [noise]\n" in text
    assert "above: test.accuracy of twice above that of softmax" in text
    assert "  Every model: dots of test.accuracy\n" in text
    text = shown(capsys, "study", "show", file, "--scale", "tiny").out
    assert "Size: 5 rows, 5 trials and a search of at least 10.\n" in text


@pytest.mark.parametrize("scale", [None, "tiny", "paper"])
@pytest.mark.parametrize("name", ["mine.yaml", "w-table-1", "w-table-6", "t-table-2"])
def test_the_yaml_that_is_shown_is_the_same_study(file, capsys, name, scale):
    from logitlab.studies import define

    scale = "large" if (name, scale) == ("mine.yaml", "paper") else scale
    options = [] if scale is None else ["--scale", scale]
    Path("shown.yaml").write_text(shown(capsys, "study", "show", name, "--yaml", *options).out, encoding="utf-8")
    assert read_study(Path("shown.yaml")) == define(name, scale)
    capsys.readouterr()
    assert "at the scale" in shown(capsys, "study", "show", "shown.yaml").out


def test_a_folder_says_what_it_holds(study, capsys):
    text = shown(capsys, "study", "show", study.folder).out
    assert text.startswith("made-up: A made-up study\n")
    fault = shown(capsys, "study", "show", study.folder, "--scale", "tiny", code=2).err
    assert "holds a study without scales. Got 'tiny'; name the preset or the file instead." in fault


def test_status_of_a_study(study, capsys):
    study.finish(0, 0, seconds=10.0)
    study.fail(0, 1)
    study.fail(0, 2)
    with take_claim(study.store.trial_folder(identity(1, 0))):
        text = shown(capsys, "study", "status", study.root).out
    lines = text.splitlines()
    assert lines[:3] == [
        "made-up: A made-up study",
        "  8 trials: 1 done, 1 running, 2 failed, 4 left",
        "  Time left: about 25 s (10 s a trial, 2 at a time).",
    ]
    assert [line.split() for line in lines[4:7]] == [
        ["row", "done", "running", "failed", "left", "a", "trial"],
        [*label(0).split(), "1", "0", "2", "0", "10", "s"],
        [*label(1).split(), "0", "1", "0", "4", "–"],
    ]
    assert f"    {label(1)}, seed 0: process " in text
    assert f"    2 times TrialError: the loss ({label(0)}, seed 1; {label(0)}, seed 2)\n" in text
    assert text.endswith(f"  'logitlab study retry {study.root}' tries them again.\n")


def test_status_before_the_first_trial_and_after_the_last(study, capsys):
    text = shown(capsys, "study", "status", study.folder).out
    assert "Time left: unknown before the first trial is done. Nobody is running it now;" in text
    study.finish_all()
    assert "Nothing is left to run.\n" in shown(capsys, "study", "status", study.root).out


def test_status_tells_what_waits(tmp_path, capsys):
    study = FabricatedStudy(tmp_path, row_0={"blocked": "'a' failed."}, row_1={"waiting": "It waits for 'κ = 5'."})
    text = shown(capsys, "study", "status", study.root).out
    assert f"  Waiting:\n    {label(0)}: 'a' failed.\n    {label(1)}: It waits for 'κ = 5'.\n" in text
    assert "  blocked\n" in text


def test_status_of_several_studies(study, capsys):
    FabricatedStudy(study.root, "other").finish_all()
    text = shown(capsys, "study", "status", study.root).out
    assert text.startswith("made-up: ")
    assert "\n\nother: " in text
    assert shown(capsys, "study", "status", study.root, "--study", "other").out.startswith("other: ")


def test_status_of_trials_alone(study, capsys):
    import shutil

    study.finish(0, 0)
    shutil.rmtree(study.root / "studies")
    text = shown(capsys, "study", "status", study.root / "trials").out
    assert text.startswith("Trials of no study\n  1 trial: 1 done, 0 running, 0 failed, 0 left\n")


def test_status_for_a_program(study, capsys):
    study.finish(0, 0, seconds=10.0)
    (found,) = json.loads(shown(capsys, "study", "status", study.root, "--json").out)
    assert (found["name"], found["done"], found["left"], found["total"]) == ("made-up", 1, 7, 8)
    assert found["rows"][0]["label"] == label(0)
    assert found["seconds_left"] == pytest.approx(35.0)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_watching_ends_when_nothing_is_left(study, capsys, monkeypatch, options):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        study.finish_all()

    monkeypatch.setattr("logitlab.cli.study_status.time.sleep", sleep)
    text = shown(capsys, "study", "status", study.root, "--watch", *options).out
    assert len(waited) == 1
    if options:
        assert [json.loads(line)[0]["done"] for line in text.splitlines()] == [0, 8]
    else:
        assert "8 trials: 0 done" in text
        assert text.index("8 trials: 0 done") < text.index("8 trials: 8 done")


def test_the_report_is_drawn_anew(study, capsys):
    study.finish_all()
    text = shown(capsys, "study", "report", study.root).out
    assert text.endswith(f"Report: {study.folder / 'report.html'}\n")
    assert label(0) in (study.folder / "report.html").read_text(encoding="utf-8")
    assert label(0) in (study.folder / "table.md").read_text(encoding="utf-8")


def test_exports_go_to_the_screen_or_a_file(study, capsys, tmp_path):
    study.finish(0, 0)
    captured = shown(capsys, "study", "export", study.root)
    assert captured.out.count("\n") == 2
    assert captured.err == ""
    captured = shown(capsys, "study", "export", study.root, "--to", "csv", "--output", tmp_path / "x.csv")
    assert captured.out == ""
    assert captured.err == f"1 trial of the study 'made-up', in {tmp_path / 'x.csv'}\n"
    path = study.store.trial_folder(study.finish(0, 1)) / "record.json"
    path.write_text("{")
    assert "Note: Cannot read" in shown(capsys, "study", "export", study.root).err


# What is wrong


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("study lst", "No such command 'lst'. Did you mean 'list'? See 'logitlab study --help'."),
        ("study run", "Missing argument 'FILE_OR_PRESET'"),
        ("study show w-table-11", "Unknown study 'w-table-11'; did you mean 'w-table-1'?"),
        ("study show gone.yaml", "There is no file 'gone.yaml'."),
        ("study show mine.yaml --scale tny", "Unknown scale 'tny'; did you mean 'tiny'?"),
        ("study show damaged.yaml", "damaged.yaml"),
        ("study status gone", "in 'gone'. There is no such folder."),
        ("study status mine.yaml", "in 'mine.yaml'. That is a file."),
        ("study status empty", "in 'empty'. It holds no trials and no studies."),
        ("study status runs --study mad-up", "Unknown study 'mad-up'; did you mean 'made-up'?"),
        ("study status plain --study made-up", "'plain' holds trials and no study. Leave --study out."),
        ("study status runs/studies/made-up --study other", "is the folder of the study 'made-up'. Leave --study out."),
        ("study report gone", "There is no such folder."),
        ("study report plain", "holds trials and no study, so there is no table to draw."),
        ("study retry gone", "There is no such folder."),
        ("study retry plain", "holds trials and no study, so nobody knows which of them are wanted."),
        ("study export gone", "There is no such folder."),
        ("study export runs --to xls", "Unknown format 'xls'"),
        ("study export runs", "No trial of the study 'made-up' has ended yet"),
    ],
)
def test_wrong_names_and_folders_give_code_2_and_a_sentence(file, study, capsys, line, words):
    Path("damaged.yaml").write_text("heads: [\n", encoding="utf-8")
    Path("empty").mkdir()
    Path("plain/trials").mkdir(parents=True)
    captured = shown(capsys, *line.split(), code=2)
    assert words in captured.err
    assert captured.out == ""
    assert all(each.startswith("logitlab: ") for each in captured.err.splitlines())


def test_a_bare_command_shows_the_help(capsys):
    text = shown(capsys, "study").out
    for name in ("run", "list", "show", "status", "report", "retry", "export"):
        assert name in text


def test_what_looks_at_studies_never_imports_torch(study, tmp_path):
    study.finish_all()
    (tmp_path / "mine.yaml").write_text(YAML, encoding="utf-8")
    script = (
        "import sys; from logitlab.cli.main import main\n"
        "for line in sys.argv[1:]:\n"
        "    code = main(line.split())\n"
        "    if code or 'torch' in sys.modules: sys.exit(f'{line}: {code}, torch: {\"torch\" in sys.modules}')\n"
    )
    lines = [
        f"study list --out {study.root}",
        "study show w-table-1",
        "study show mine.yaml --yaml",
        f"study status {study.root}",
        f"study export {study.root} --to csv",
        f"study export {study.root} --to latex",
        f"study export {study.root} --to tensorboard",
        f"study report {study.root}",
    ]
    process = subprocess.run(
        [sys.executable, "-c", script, *lines], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert "Report: " in process.stdout


def test_a_definition_of_one_head_is_short_yaml():
    from logitlab.studies.catalogue import definition_yaml

    definition = StudyDefinition.model_validate(
        {
            "name": "x",
            "description": "one\ntwo: three\n",
            "heads": [{"head": "cosine", "parameters": {"kappa": 1e-7, "name": "no", "other": "1e-3"}}],
        }
    )
    text = definition_yaml(definition)
    assert "description: |\n  one\n  two: three\n" in text
    from logitlab.config.study.reading import parse_study

    # Words stay words, and numbers numbers.
    with pytest.raises(ConfigurationError, match="Got the text '1e-3'"):
        parse_study(text)
    assert "kappa: 1e-07" in text
    assert "'1e-3'" in text


#: Kind of a fault → what must be said of it.
TWELVE = {
    "unknown head": "did you mean 'softmax'?",
    "unknown backbone": "did you mean 'small_cnn'?",
    "unknown option": "Unknown option 'titel'; did you mean 'title'?",
    "wrong type": "'seeds' must be a number from 1 to 10,000",
    "empty grid": "'heads[2].grid.head.kappa' is empty",
    "number as text": "Got the text '1e-3'; write it without quotes.",
    "cyclic dependency": "These rows wait for each other: 'A' → 'B' → 'A'.",
    "duplicate trial": "are the same trial. Give it once.",
    "unknown parameter": "did you mean 'kappa'?",
    "unknown stage": "did you mean 'linear_probe'?",
    "unknown rule": "did you mean 'above'?",
    "unknown axis": "did you mean 'training.epochs'?",
    "missing data set": "Unknown data set 'digit'; did you mean 'digits'?",
    "missing plugin": "Cannot import the plugin 'no_such_plugin'",
}


def test_twelve_kinds_of_faults_in_one_file_are_told_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text(
        """\
titel: x
plugins: [no_such_plugin]
data: digit
backbone: smal_cnn
seeds: many
grid: {training.epoch: [1]}
training: {learning_rate: "1e-3"}
heads:
  - sofmax
  - {head: "cosine:kapa=3"}
  - {head: cosine, label: C, grid: {head.kappa: []}}
  - {head: cosine, label: A, depends_on: {head.kappa: {of: B, measure: validation.kappa_star}}}
  - {head: cosine, label: B, depends_on: {head.kappa: {of: A, measure: validation.kappa_star}}}
  - {head: sigmoid, label: D}
  - {head: "sigmoid:bias=true", label: E}
stages: [{linear_prob: {}}]
claims: [{text: t, rule: abov, measure: test.nll, than: D}]
""",
        encoding="utf-8",
    )
    assert main(["study", "run", "broken.yaml", "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [kind for kind, words in TWELVE.items() if not any(words in line for line in lines)] == ["duplicate trial"]
    assert len(lines) == len(set(lines))
    assert not (tmp_path / "out").exists()
    # Which trials there are hangs on the images; with them the twins are told as well.
    text = (tmp_path / "broken.yaml").read_text(encoding="utf-8")
    (tmp_path / "broken.yaml").write_text(text.replace("data: digit\n", "data: digits\n").replace("smal_", "small_"))
    assert main(["study", "run", "broken.yaml", "--out", str(tmp_path / "out")]) == 2
    found = capsys.readouterr().err
    gone = ("missing data set", "unknown backbone")
    assert [kind for kind, words in TWELVE.items() if words not in found and kind not in gone] == []

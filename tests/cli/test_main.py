"""Faults become one line each; exit codes; what is imported for them."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded import run_python

from logitlab.cli.main import main
from logitlab.config.errors import ConfigurationError, DataError


def run(*arguments, code=0):
    process = run_python("-c", "import sys; from logitlab.cli.main import main; sys.exit(main())", *arguments)
    assert process.returncode == code, process.stderr
    return process


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--version"]])
def test_help_never_imports_torch(arguments):
    script = (
        "import sys; from logitlab.cli.main import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'timm'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    process = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert run("--version").stdout == f"logitlab {version('logitlab')}\n"


def test_a_bare_command_shows_the_help(capsys):
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["compar"], "logitlab: No such command 'compar'. Did you mean 'compare'? See 'logitlab --help'."),
        (["compare", "--epohs", "3"], "logitlab: No such option: --epohs"),
        (["compare", "--epochs", "many"], "logitlab: Invalid value for '--epochs': "),
        (["compare", "a", "b"], "logitlab: Got unexpected extra argument"),
        (["compare", "--epochs"], "logitlab: Option '--epochs' requires an argument"),
    ],
)
def test_wrong_usage_gives_one_line_and_code_2(capsys, arguments, start):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(start)
    assert captured.err.count("\n") == 1
    assert "--help'" in captured.err


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        (ConfigurationError(["one is wrong.", "two\nis wrong."]), ["one is wrong.", "two is wrong."]),
        (DataError("cat/1.jpg is truncated."), ["cat/1.jpg is truncated."]),
    ],
)
def test_faults_give_a_line_each_and_code_2(capsys, monkeypatch, fault, lines):
    def fail(*arguments, **options):
        raise fault

    monkeypatch.setattr("logitlab.studies.compare", fail)
    assert main(["compare"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "".join(f"logitlab: {line}\n" for line in lines)
    assert captured.out == ""


def test_a_defect_of_the_program_keeps_its_traceback(monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("logitlab.studies.compare", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["compare"])


def test_ctrl_c_before_the_study_starts(capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("logitlab.cli.main._run", interrupt)
    assert main(["compare"]) == 130
    assert capsys.readouterr().err == "logitlab: Interrupted.\n"


def test_ctrl_c_while_options_are_read(capsys, monkeypatch):
    import typer

    def abort(*arguments, **options):
        raise typer.Abort

    monkeypatch.setattr("logitlab.studies.compare", abort)
    assert main(["compare"]) == 130
    assert capsys.readouterr().err.endswith("logitlab: Interrupted.\n")


def test_a_reader_that_leaves_early_is_no_fault(monkeypatch):
    def leave(*arguments, **options):
        raise BrokenPipeError

    # The process's own output would be given up.
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr("logitlab.cli.main._run", leave)
    assert main(["compare"]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["heads"]])
def test_a_full_disk_is_told_in_one_line(arguments):
    script = "import sys; from logitlab.cli.main import main; sys.exit(main())"
    with Path("/dev/full").open("w") as full:
        process = run_python("-c", script, *arguments, stdout=full)
    assert process.returncode == 2
    assert process.stderr == (
        "logitlab: Cannot write the output: No space left on device. Make room, or send it elsewhere.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "--head", "softmax", "--head", "cosine"],
            "'--head': given 2 times. Give it once; 'logitlab train' takes one, 'logitlab compare' takes several.",
        ),
        (["compare", "--seeds", "1", "--seeds", "2", "--seeds=3"], "'--seeds': given 3 times. Give it once;"),
        (["predict", "x", "y", "--output", "a", "--output", "b"], "'--output': given 2 times."),
    ],
)
def test_an_option_of_one_value_is_given_once(capsys, arguments, words):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"logitlab: Invalid value for {words}")
    assert shown.count("\n") == 1


def test_without_the_extra_the_command_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "logitlab: The command needs 'typer'. Install it with: pip install 'logitlab[lab]'\n"
    )


def test_a_missing_module_of_our_own_is_a_defect(monkeypatch):
    monkeypatch.setitem(sys.modules, "logitlab.cli.app", None)
    with pytest.raises(ModuleNotFoundError, match=r"logitlab\.cli\.app"):
        main([])


def test_a_stream_that_cannot_be_told_its_errors(monkeypatch):
    """Notebooks replace the streams by objects of their own."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["--version"]) == 0
    assert sys.stdout.getvalue().startswith("logitlab ")


def test_a_terminal_without_greek_shows_something():
    import os

    process = subprocess.run(
        [sys.executable, "-c", "from logitlab.cli.main import main; main(['compare', '--help'])"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=False,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_two_faults_at_once_from_the_shell(tmp_path):
    process = run("compare", "/no/such/folder", "--head", "sofmax", "--epochs", "-1", "--out", str(tmp_path), code=2)
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    assert len(lines) == 3
    assert "'epochs' must be greater than or equal to 1. Got -1." in lines[0]
    assert "/no/such/folder" in lines[1]
    assert "did you mean 'softmax'?" in lines[2]


@pytest.mark.slow
def test_a_corrupt_image_is_named(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.jpg")
    path = tmp_path / "cat" / "3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    process = run("compare", str(tmp_path), "--out", str(tmp_path / "runs"), code=2)
    assert process.stderr.count("\n") == 1
    assert "cat/3.jpg" in process.stderr

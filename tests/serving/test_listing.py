"""Names become files."""

import os
from pathlib import Path

import pytest

from logitlab.config.errors import DataError
from logitlab.serving import list_images


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.png", ".git/d.png", "sub/deep/e.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "[1].png").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_gives_its_images_at_any_depth(tree):
    assert list_images(["photos"]) == [
        "photos/[1].png",
        "photos/a.JPG",
        "photos/b.png",
        "photos/sub/c.png",
        "photos/sub/deep/e.webp",
    ]


def test_a_named_file_is_taken_whatever_it_is_called_and_once(tree):
    assert list_images(["photos/notes.txt", tree / "photos" / "b.png"]) == [
        "photos/notes.txt",
        str(tree / "photos" / "b.png"),
    ]
    assert list_images(["photos/b.png", "photos/*.png"]) == ["photos/b.png", "photos/[1].png"]
    assert list_images(["photos/[1].png"]) == ["photos/[1].png"]


def test_patterns_reach_any_depth(tree):
    assert list_images(["photos/**/*.png"]) == ["photos/[1].png", "photos/b.png", "photos/sub/c.png"]
    assert list_images(["photos/su?"]) == ["photos/sub/c.png", "photos/sub/deep/e.webp"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "No image to predict"),
        (["gone.png"], "Cannot find the image 'gone.png'"),
        (["*.gif"], "No image matches '*.gif'"),
        (["empty"], "The folder 'empty' has no images"),
        (["a" * 5000], "Cannot find the image"),
    ],
)
def test_a_name_that_stands_for_nothing_is_said(tree, names, words):
    with pytest.raises(DataError) as fault:
        list_images(names)
    assert words in str(fault.value)


def test_names_that_are_not_utf8(tree):
    name = os.fsdecode(b"photos/sub/caf\xe9.png")
    Path(name).touch()
    assert name in list_images(["photos"])
    assert list_images(["photos/sub/caf*"]) == [name]

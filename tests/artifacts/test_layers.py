"""How layers are merged into one tree."""

from __future__ import annotations

import pytest

from remora.artifacts.layers import merge, stack_digest


def build(root, files):
    """Make a tree: text for a file, `-> target` for a link, None for a directory."""
    root.mkdir()
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_text(content)
    return root


def read(root):
    """Read a tree back in the same form."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_text()
    return found


@pytest.mark.parametrize(
    ("layers", "merged"),
    [
        ([{"a": "1"}, {"b": "2"}], {"a": "1", "b": "2"}),
        ([{"x": "1"}, {"x": "2"}], {"x": "2"}),
        ([{"x": "1"}, {"x": "2"}, {"x": "3"}], {"x": "3"}),
        ([{"d/a": "1"}, {"d/b": "2"}], {"d/a": "1", "d/b": "2"}),
        ([{"d/a": "1", "d/e/f": "1"}, {"d": "file"}], {"d": "file"}),
        ([{"d": "file"}, {"d/a": "1"}], {"d/a": "1"}),
        ([{"d/a": "1"}, {"d": "-> e"}], {"d": "-> e"}),
        ([{"e/a": "1", "d": "-> e"}, {"d/b": "2"}], {"e/a": "1", "d/b": "2"}),
        ([{"l": "-> /etc/passwd"}, {"l": "mine"}], {"l": "mine"}),
        ([{"l": "-> a"}, {"l": "-> b"}], {"l": "-> b"}),
        ([{"l": "-> missing"}, {"m": "1"}], {"l": "-> missing", "m": "1"}),
    ],
)
def test_a_later_layer_overwrites(tmp_path, layers, merged):
    trees = [build(tmp_path / f"layer{number}", files) for number, files in enumerate(layers)]
    before = [read(tree) for tree in trees]
    merge(trees, tmp_path / "opt")
    assert read(tmp_path / "opt") == merged
    assert [read(tree) for tree in trees] == before


def test_nothing_outside_is_touched_through_a_link(tmp_path):
    outside = build(tmp_path / "outside", {"f": "untouched"})
    first = build(tmp_path / "first", {"d": f"-> {outside}"})
    second = build(tmp_path / "second", {"d/f": "new"})
    merge([first, second], tmp_path / "opt")
    assert (outside / "f").read_text() == "untouched"
    assert read(tmp_path / "opt") == {"d/f": "new"}


def test_files_are_linked_and_keep_their_modes(tmp_path):
    tree = build(tmp_path / "layer", {"extensions/e": "#!/bin/sh"})
    (tree / "extensions/e").chmod(0o755)
    merge([tree], tmp_path / "opt")
    file = (tmp_path / "opt/extensions/e").stat()
    assert file.st_ino == (tree / "extensions/e").stat().st_ino
    assert file.st_mode & 0o777 == 0o755


def test_the_order_of_layers_makes_another_stack():
    assert stack_digest(["a", "b"]) != stack_digest(["b", "a"])
    assert stack_digest(["ab"]) != stack_digest(["a", "b"])

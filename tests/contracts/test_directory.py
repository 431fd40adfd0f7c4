"""A tree is removed whatever was made of it."""

import os
import subprocess

from remora.sandbox.directory import remove_tree


def test_a_tree_deeper_than_python_descends_is_removed(tmp_path):
    script = """
import os, sys
os.chdir(sys.argv[1])
for number in range(3000):
    os.mkdir("deep"); os.mkdir("other"); open("file", "w").close()
    os.symlink("/", "link")
    os.chdir("deep")
"""
    tree = tmp_path / "tree"
    tree.mkdir()
    subprocess.run(["python3", "-c", script, tree], check=True)
    remove_tree(tree)
    assert list(tmp_path.iterdir()) == []
    remove_tree(tree)


def test_a_tree_without_rights_is_removed(tmp_path):
    inner = tmp_path / "tree" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for directory in (inner, inner.parent, inner.parent.parent):
        directory.chmod(0)
    remove_tree(tmp_path / "tree")
    assert not os.path.lexists(tmp_path / "tree")

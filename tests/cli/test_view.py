"""``selplug view``: which page it opens, and what it says without one."""

from __future__ import annotations

import webbrowser

import pytest

from selplug.cli import main


@pytest.fixture
def opened(monkeypatch):
    """The addresses that the browser was given."""
    found = []
    monkeypatch.setattr(webbrowser, "open", lambda address: found.append(address) or True)
    return found


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["view", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", ["report.html", "similarity.html", "compare.html", "explain.html"])
def test_the_page_of_a_folder(tmp_path, opened, name):
    folder = tmp_path / "a b#c"
    folder.mkdir()
    (folder / name).write_text("")
    assert run(folder) == 0
    assert opened == [(folder / name).as_uri()]
    assert "a%20b%23c" in opened[0]


@pytest.mark.parametrize(
    ("given", "page"),
    [
        (".", "report.html"),
        ("report.json", "report.html"),
        ("units.npz", "report.html"),
        ("similarity.json", "similarity.html"),
        ("similarity.html", "similarity.html"),
    ],
)
def test_of_several_pages_the_one_that_is_meant(tmp_path, opened, given, page):
    for name in ("report.html", "report.json", "units.npz", "similarity.html", "similarity.json", "other.html"):
        (tmp_path / name).write_text("")
    assert run(tmp_path / given) == 0
    assert opened == [(tmp_path / page).as_uri()]


@pytest.mark.parametrize("flag", ["--print-path", "--no-browser"])
def test_without_a_screen(tmp_path, opened, capsys, monkeypatch, flag):
    (tmp_path / "report.html").write_text("")
    monkeypatch.chdir(tmp_path)
    assert run(".", flag) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert opened == []


def test_what_is_not_there(tmp_path, opened, capsys):
    assert run(tmp_path / "none") == 2
    assert "does not exist" in capsys.readouterr().err
    assert run(tmp_path) == 2
    assert "expected one of report.html" in capsys.readouterr().err
    assert opened == []


def test_no_browser_can_be_started(tmp_path, capsys, monkeypatch):
    (tmp_path / "report.html").write_text("")
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert run(tmp_path) == 2
    assert f"cannot start a browser; the page is {tmp_path / 'report.html'}" in capsys.readouterr().err

"""A report is written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from sample_report import sample_report

from selplug.audits import files
from selplug.audits.files import check_writable, save
from selplug.core.errors import PluginError, ReportError
from selplug.registry import Plugin
from selplug.report import saving


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def use_writers(monkeypatch, **writers) -> None:
    monkeypatch.setattr(files, "_writers", lambda: writers)


def writes(name: str, text: str = "new"):
    def write(_report, folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


def fails(error: BaseException, name: str | None = None):
    def write(_report, folder: Path) -> Path:
        if name:
            (folder / name).write_text("half")
        raise error

    return write


def test_saves_all_files(tmp_path):
    folder = tmp_path / "deep" / "report"
    assert save(sample_report(), folder) == folder
    assert sorted(content(folder)) == ["report.html", "report.json", "units.npz"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_same_content_same_bytes(tmp_path):
    first, second = (content(save(sample_report(), tmp_path / name)) for name in "ab")
    assert first == second


def test_report_saves_itself_over_an_older_one_and_keeps_foreign_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    sample_report(layers=1).save(tmp_path)
    old = content(tmp_path)
    sample_report(layers=2).save(str(tmp_path))
    new = content(tmp_path)
    assert new["notes.txt"] == b"mine"
    assert all(new[name] != old[name] for name in ("report.json", "report.html", "units.npz"))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ReportError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("bug"), RuntimeError),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_a_failing_writer_changes_nothing(tmp_path, monkeypatch, error, raised, old):
    folder = tmp_path / "report"
    if old:
        save(sample_report(), folder)
    before = content(tmp_path)
    use_writers(monkeypatch, a=writes("report.json"), b=fails(error, "report.html"))
    with pytest.raises(raised):
        save(sample_report(), folder)
    assert content(tmp_path) == before
    assert folder.exists() == old
    assert not list(tmp_path.rglob(".unfinished-*"))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_between_two_files_brings_the_old_ones_back(tmp_path, monkeypatch, error):
    (tmp_path / "a.txt").write_text("old a")
    before = content(tmp_path)
    use_writers(monkeypatch, a=writes("a.txt"), b=writes("b.txt"))
    replace = saving.os.replace

    def dies_at_b(source, target):
        if Path(target).name == "b.txt":
            raise error
        replace(source, target)

    monkeypatch.setattr(saving.os, "replace", dies_at_b)
    with pytest.raises((ReportError, KeyboardInterrupt)):
        save(sample_report(), tmp_path)
    assert content(tmp_path) == before


def test_full_disk_says_what_where_and_what_to_do(tmp_path, monkeypatch):
    use_writers(monkeypatch, a=fails(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ReportError, match=r"cannot write the report into .*report: No space left.*free some space"):
        save(sample_report(), tmp_path / "report")


def test_a_folder_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "b.txt").mkdir()
    use_writers(monkeypatch, a=writes("a.txt"), b=writes("b.txt"))
    with pytest.raises(ReportError, match=r"b\.txt.*choose another folder"):
        save(sample_report(), tmp_path)
    assert content(tmp_path) == {}


def test_two_writers_of_one_file(tmp_path, monkeypatch):
    use_writers(monkeypatch, a=writes("report.json"), b=writes("report.json"))
    with pytest.raises(ReportError, match="'a' and 'b' both write report"):
        save(sample_report(), tmp_path)
    assert content(tmp_path) == {}


def test_a_writer_that_writes_elsewhere(tmp_path, monkeypatch):
    use_writers(monkeypatch, a=lambda _report, _folder: tmp_path / "other")
    with pytest.raises(ReportError, match="'a' has to return the path of a file that it wrote"):
        save(sample_report(), tmp_path)


def test_files_in_subfolders(tmp_path, monkeypatch):
    def write(_report, folder: Path) -> Path:
        (folder / "sub").mkdir()
        (folder / "sub" / "x.txt").write_text("x")
        return folder / "sub" / "x.txt"

    use_writers(monkeypatch, a=write)
    save(sample_report(), tmp_path)
    assert content(tmp_path) == {str(Path("sub", "x.txt")): b"x"}


def test_a_writer_whose_extra_is_missing_is_left_out(monkeypatch):
    plugin = Plugin("selplug.reports", "pdf", "a:b", "other", "1", "pdf", ("missing",), entry_point=None)
    monkeypatch.setattr(files, "plugins", lambda _group: {"pdf": plugin})
    assert files._writers() == {}


def test_check_writable_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "report")
    assert list(tmp_path.iterdir()) == []
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_writable_on_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(ReportError, match="choose another folder"):
            check_writable(path)
    assert content(tmp_path) == {"file": b"mine"}


def test_check_writable_without_permission(tmp_path, monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(saving.tempfile, "mkdtemp", denied)
    with pytest.raises(ReportError, match="Permission denied; choose a folder that you may write to"):
        check_writable(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_check_writable_finds_a_broken_writer_before_the_run(tmp_path, monkeypatch):
    def broken(_group, name):
        raise PluginError(f"{name} cannot be loaded")

    monkeypatch.setattr(files, "load", broken)
    with pytest.raises(PluginError):
        check_writable(tmp_path)

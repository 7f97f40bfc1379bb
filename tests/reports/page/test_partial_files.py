"""Files that a run had not written to their end."""

import pytest

from raymat.errors import RunError
from raymat.reports.page.partial_files import whole_lines, whole_rows
from raymat.reports.page.run_files import RunFiles


@pytest.fixture
def run(tmp_path):
    return RunFiles(tmp_path, {})


def test_whole_file_is_read_without_a_word(run):
    (run.path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (run.path / "b.jsonl").write_text('{"x": 1}\n\n{"x": 2}\n')
    table, notes = whole_rows(run, "a.csv")
    assert table.to_dict("list") == {"x": [1, 3], "y": [2, 4]}
    assert (notes, whole_lines(run, "b.jsonl")) == ([], ([{"x": 1}, {"x": 2}], []))


def test_half_a_row_is_left_out_and_told(run):
    (run.path / "a.csv").write_text("x,y\n1,0.25\n3,0.2")  # 0.2 may have been 0.25, too
    table, (note,) = whole_rows(run, "a.csv")
    assert table.to_dict("list") == {"x": [1], "y": [0.25]}
    assert note.is_warning
    assert note.text == "a.csv ends in the middle of a row, which is left out."


def test_lines_that_are_no_objects_are_counted(run):
    (run.path / "b.jsonl").write_text('{"x": 1}\n[1]\nno JSON\n{"x": 2}\n{"x": ')
    lines, (note,) = whole_lines(run, "b.jsonl")
    assert lines == [{"x": 1}, {"x": 2}]
    assert note.text == "b.jsonl: 3 of 5 lines cannot be read and are left out."


def test_file_that_is_not_there_or_no_table_is_an_error(run):
    with pytest.raises(RunError, match=r"a\.csv cannot be read: No such file"):
        whole_rows(run, "a.csv")
    with pytest.raises(RunError, match=r"b\.jsonl cannot be read: No such file"):
        whole_lines(run, "b.jsonl")
    (run.path / "a.csv").write_text("x,y\n1,2\n1,2,3,4\n")
    with pytest.raises(RunError, match=r"a\.csv cannot be read: .*4"):
        whole_rows(run, "a.csv")

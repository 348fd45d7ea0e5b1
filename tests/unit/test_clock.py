"""The run's date: that of its first start, whenever it goes on."""

import pytest

from arte_plugin.errors import ConfigError
from arte_plugin.run import clock


@pytest.fixture
def today(monkeypatch):
    """Sets the day."""

    class Day(clock.date):
        now = "2024-11-24"

        @classmethod
        def today(cls):
            return clock.date.fromisoformat(cls.now)

    monkeypatch.setattr(clock, "date", Day)
    return Day


def test_a_run_that_goes_on_next_day_keeps_its_date(tmp_path, today):
    assert clock.run_date(tmp_path / "arte", None) == "2024-11-24"
    today.now = "2024-11-25"
    assert clock.run_date(tmp_path / "arte", None) == "2024-11-24"
    assert clock.run_date(tmp_path / "another", None) == "2024-11-25"


def test_a_look_at_a_run_does_not_start_it(tmp_path, today):
    assert clock.run_date(tmp_path / "arte", None, keep=False) == "2024-11-24"
    assert not (tmp_path / "arte").exists()


def test_a_run_from_another_run_has_its_date(tmp_path, today):
    clock.run_date(tmp_path / "source", "2020-02-02")
    assert clock.run_date(tmp_path / "arte", None, tmp_path / "source") == "2020-02-02"


def test_another_date_than_the_run_was_started_with_is_refused(tmp_path):
    assert clock.run_date(tmp_path, "2020-02-02") == clock.run_date(tmp_path, "2020-02-02") == "2020-02-02"
    with pytest.raises(ConfigError, match=r"started with the date 2020-02-02.*`arte.date: 2020-02-03`"):
        clock.run_date(tmp_path, "2020-02-03")


def test_of_ranks_on_both_sides_of_midnight_the_first_one_decides(tmp_path, today, monkeypatch):
    """A rank that finds no file, but is overtaken while it writes its own."""
    monkeypatch.setattr(clock, "_read", lambda file: None)
    assert clock.run_date(tmp_path, None) == "2024-11-24"
    today.now = "2024-11-25"
    assert clock.run_date(tmp_path, None) == "2024-11-24"
    assert [file.name for file in tmp_path.iterdir()] == [clock.FILE]


def test_others_may_read_it_as_they_may_read_the_rest(tmp_path):
    clock.run_date(tmp_path, None)
    (tmp_path / "beside").write_text("")
    assert (tmp_path / clock.FILE).stat().st_mode == (tmp_path / "beside").stat().st_mode


def test_a_file_system_without_links(tmp_path, today, monkeypatch):
    def refuse(*paths):
        raise PermissionError("no links here")

    monkeypatch.setattr(clock.os, "link", refuse)
    assert clock.run_date(tmp_path, None) == clock.run_date(tmp_path, None) == "2024-11-24"
    assert [file.name for file in tmp_path.iterdir()] == [clock.FILE]


def test_a_file_that_holds_no_date(tmp_path):
    (tmp_path / clock.FILE).write_text("soon")
    with pytest.raises(ConfigError, match="should hold a date"):
        clock.run_date(tmp_path, None)

"""The inventory's promise, on 300 damaged tables; the 20,000 are benchmarks/fuzz_tables.py's."""

import pytest

from benchmarks import fuzz_tables


def test_undamaged_tables_are_read(tmp_path):
    fuzz_tables.make_folder(tmp_path)
    readable = {"L01_decimal_comma", "L35_fold_train_test", "shipped"}
    for name, data in fuzz_tables.tables().items():
        inventory = fuzz_tables.check(tmp_path, data)
        if name in readable:
            assert not inventory.unusable()


def test_damaged_tables_give_sound_labels_or_a_clear_error():
    result = fuzz_tables.run(0, 300, 0)
    assert result["failures"] == []
    assert result["read"] > 50
    assert result["refused"] > 10


def test_the_check_finds_what_breaks_the_promise(tmp_path, monkeypatch):
    def take(folder):
        raise fuzz_tables.UserError("no")

    monkeypatch.setattr(fuzz_tables, "take_inventory", take)
    with pytest.raises(fuzz_tables.BrokenPromise, match="the error is not clear"):
        fuzz_tables.check(tmp_path, b"")

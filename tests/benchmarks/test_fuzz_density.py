"""The reader's promise, on 2,100 damaged files; the 20,000 are benchmarks/fuzz_density.py's."""

import pytest

from benchmarks import fuzz_density

GROUPS, SIZE = 14, 150  # 2,100 cases


@pytest.fixture(scope="module")
def files():
    return fuzz_density.real_files()


@pytest.fixture(scope="module")
def seeds(files):
    return files | fuzz_density.field_files()


def test_undamaged_files_are_read(files):
    for name, data in files.items():
        density = fuzz_density.check(data, name)
        assert density is not None
        assert density.values.shape == fuzz_density.PIECE
        for compress in fuzz_density.COMPRESSIONS:
            assert fuzz_density.check(compress(data), name).num_electrons == density.num_electrons


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_damaged_file_gives_a_density_or_a_clear_error(seeds, group):
    outcomes = set()
    for number in range(group * SIZE, (group + 1) * SIZE):
        name, data = fuzz_density.case(seeds, 0, number)
        try:
            outcomes.add(fuzz_density.check(data, f"case {number}") is None)
        except Exception as error:
            raise AssertionError(f"case {number} of seed 0: {name}") from error
    assert outcomes == {True, False}  # some damage does no harm


def test_the_check_finds_what_breaks_the_promise(monkeypatch):
    def read(data, source):
        raise fuzz_density.DensityFormatError("no")

    monkeypatch.setattr(fuzz_density, "read_density_bytes", read)
    with pytest.raises(fuzz_density.BrokenPromise, match="the error is not clear"):
        fuzz_density.check(b"", "case 1")

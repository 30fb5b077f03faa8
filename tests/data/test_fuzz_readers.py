"""A small run of the fuzzing of all readers; ``python -m benchmarks.fuzz_readers`` is the long one."""

from benchmarks.fuzz_readers import READERS, fuzz, seeds


def test_damaged_files_are_source_errors_or_are_read(tmp_path):
    assert fuzz(300, 7, tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_every_reader_reads_its_undamaged_files(tmp_path):
    refused = {"gray.gif", "color.gif"} | {"ome.tif", "imagej.tif"}
    readers = set()
    for reader, name, data in seeds():
        (tmp_path / name).write_bytes(data)
        if name not in refused and not (reader == "labels" and name == "float.tif"):
            READERS[reader](data, tmp_path / name)
        readers.add(reader)
    assert readers == set(READERS)


def test_a_reader_that_fails_is_told_with_its_file(tmp_path, monkeypatch):
    def fail(data, path):
        raise KeyError("missing")

    monkeypatch.setitem(READERS, "coco", fail)
    failures = [failure for failure in fuzz(200, 0, tmp_path) if failure.startswith("coco")]
    assert failures and "KeyError: 'missing'" in failures[0]
    assert len(list(tmp_path.glob("failure_*"))) == len(failures)

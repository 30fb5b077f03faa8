import pytest

from objguided_d2.engine.metrics_file import cut_half_line, read_metrics


def test_half_a_line_is_left_out_at_the_end_alone(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1}\n{"iteration": 2}\n{"itera')
    assert read_metrics(path) == [{"iteration": 1}, {"iteration": 2}]
    path.write_text('{"iteration": 1}\n{"itera{"iteration": 2}\n{"iteration": 3}\n')
    with pytest.raises(ValueError, match="metrics.json, line 2 is no JSON .*; remove that line"):
        read_metrics(path)


@pytest.mark.parametrize(("content", "kept"), [("{}\n{", "{}\n"), ("{}\n", "{}\n"), ("{", "")])
def test_half_a_line_is_cut(tmp_path, content, kept):
    path = tmp_path / "metrics.json"
    cut_half_line(path)
    assert not path.exists()
    path.write_text(content)
    cut_half_line(path)
    assert path.read_text() == kept

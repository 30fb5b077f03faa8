"""Arguments of ``objguided export``; what it writes is in test_bundle.py and test_bioimageio_package.py."""

from objguided_d2.inference.export_command import main


def test_a_card_that_is_not_utf8_is_named(tmp_path, capsys):
    card = tmp_path / "latin1.md"
    card.write_bytes("Zellkerne aus München".encode("latin-1"))
    assert main(["nuclei", str(tmp_path / "x.zip"), "--card", str(card)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {card} is not UTF-8 text")

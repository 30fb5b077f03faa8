"""Arguments of ``objguided export``; what it writes is in test_bundle.py and test_bioimageio_package.py."""

from objguided_d2.inference.export_command import main


def test_what_cannot_be_exported_is_one_line(tmp_path, capsys):
    out = str(tmp_path / "x.zip")
    for arguments, words in (
        (["nuclei", out, "--classes", ""], "class names '': give each class a name of its own"),
        (["nuclei", out, "--classes", "a", "a"], "class names 'a', 'a': give each"),
        (["nuclei", out, "--card", "no.md"], "--card no.md cannot be read: No such file or directory; give a file of"),
        (["nuclei", str(tmp_path)], f"{tmp_path} is a folder; name a file, as {tmp_path / 'model.zip'}"),
        (["nuclei", out, "--format", "bioimageio", "--license", ""], "--license is empty; give an SPDX identifier"),
        (["nuclei", out, "--weights", "model.pth"], "nuclei is a model in one file, with its own weights"),
    ):
        assert main(arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and words in line
    assert not list(tmp_path.iterdir())


def test_damaged_weights_are_not_answered_with_names_of_models(tmp_path, capsys):
    weights = tmp_path / "model.pth"
    weights.write_bytes(b"PK\x03\x04")
    assert main(["synthetic/objguided_small_R_18", str(tmp_path / "x.zip"), "--weights", str(weights)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: weights {weights} cannot be read") and "shipped" not in line


def test_a_card_that_is_not_utf8_is_named(tmp_path, capsys):
    card = tmp_path / "latin1.md"
    card.write_bytes("Zellkerne aus München".encode("latin-1"))
    assert main(["nuclei", str(tmp_path / "x.zip"), "--card", str(card)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {card} is not UTF-8 text")

"""Acceptance suites of ``objguided predict``: speed, memory, tiles, outputs and folders of mixed files."""

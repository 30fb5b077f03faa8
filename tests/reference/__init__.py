"""The parts of the method outside ``benchmarks.reference`` once more, slow and plain, to compare the package with.

Nothing here imports the package. Sources, coordinates and golden values are those of ``benchmarks.reference``.
"""

"""Slow, plain reference implementations of the mask stages, which suites and tests compare this package with.

Sources: Yi et al., "Object-Guided Instance Segmentation With Auxiliary Feature Refinement for Biological Images", IEEE
TMI 2021. Loops run over objects, so that each line can be read against the paper. Every function of ``rois`` and
``refine`` is checked against values of the authors' released program (tests/test_reference_golden.py). Only
``plain_model`` imports the package, whose modules it runs.

Coordinates: the integer position (x, y) is the *center* of pixel (column x, row y) of the map it refers to. A point
at x input pixels lies at x / s on the map of stride s; there is no half-pixel shift anywhere. Boxes are in input
pixels unless said otherwise, XYXY = (x1, y1, x2, y2), CXCYWH = (center x, center y, width, height).
"""

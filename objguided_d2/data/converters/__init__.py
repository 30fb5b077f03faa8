"""Offline conversion of other programs' formats to COCO JSON."""

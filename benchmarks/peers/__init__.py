"""StarDist, Cellpose and InstanSeg, trained on the same images for the same minutes, in their own environment (README.md)."""

"""StarDist, Cellpose and InstanSeg, trained on the same images for the same minutes, in an environment of their own."""

"""Choices and defaults of the prediction that the command line knows without importing torch."""

# Sides of tiles that large images are predicted in, in the network's pixels. Half the halo of the receptive field:
# farther pixels hardly count.
TILE, HALO = 1024, 128
PRECISIONS = ("float32", "bfloat16")
ORIENTATIONS = (1, 2, 4, 8)

"""The sides of tiles that large images are predicted in, unless others are given."""

# In the network's pixels. Half the halo of the receptive field: farther pixels hardly count.
TILE, HALO = 1024, 128

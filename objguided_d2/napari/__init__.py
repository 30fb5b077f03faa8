"""The napari plugin (``pip install 'objguided_d2[napari]'``): *Plugins > Segment objects*."""

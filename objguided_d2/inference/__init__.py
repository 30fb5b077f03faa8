"""From a trained model to answers: loading, prediction of any image, output files."""

"""Adapting a trained model to a few labeled images: :func:`.finetune.finetune` and the command ``finetune``."""

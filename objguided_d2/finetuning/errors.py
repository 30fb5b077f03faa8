"""What ends a fine-tuning and is no defect of the program."""


class FinetuneError(ValueError):
    """Data, a model or settings that cannot work; the message is one line that says what to do."""

"""Turn an unlabeled text corpus into instruction-tuning data, and that data into a tuned model."""

__version__ = "0.1.0"

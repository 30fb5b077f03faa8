"""Pictures, tables and pages that show what a model does."""

"""Evaluation of ranking quality: compare models, services and run files on labelled data."""

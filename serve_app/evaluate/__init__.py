"""Ranking quality: models, services and given rankings side by side on labelled data."""

"""Dice and distances, in millimetres, and the pictures of a run."""

"""Trained networks and atlases on whole scans."""

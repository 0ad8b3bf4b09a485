"""Time and memory of training and of scans."""

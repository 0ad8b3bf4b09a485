"""What is minimised: methods, terms, losses."""

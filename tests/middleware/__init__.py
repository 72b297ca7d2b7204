"""The doors that stand in front of other applications."""

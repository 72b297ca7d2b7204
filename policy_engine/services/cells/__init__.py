"""Cells: regions with a database, logs and an epoch each, which are told of orders one by one and doubt the others."""

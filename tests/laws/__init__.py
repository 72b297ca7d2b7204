"""Laws of the design that need a whole engine: 3, 5, 8 and 9."""

"""Arrays in, arrays out: the numeric core."""

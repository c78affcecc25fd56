import personacore  # noqa: F401 (before torch, for whose threads it sets a bound)

"""How the small models of the demo are made from nothing, and judged. Not part of the package."""

"""Pure: values and arrays in, values and arrays out. No clock, disk, network, torch or environment."""

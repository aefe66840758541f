"""Finding the addresses over which two peers behind NATs hear each other."""

"""The relay: joins a waiting server connection and a client connection."""

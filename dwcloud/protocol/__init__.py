"""The protocols of the cloud without input and output: no clock, no sockets."""

"""The mediator: introduces clients and servers to each other."""

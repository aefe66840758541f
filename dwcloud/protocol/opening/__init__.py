"""Opening a stream over a path: proving the session, naming the service, its end."""

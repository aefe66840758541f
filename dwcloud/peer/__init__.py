"""What clients and servers of the cloud use: connect to and listen as a system."""

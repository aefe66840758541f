"""UDT version 4: a reliable ordered stream over UDP."""

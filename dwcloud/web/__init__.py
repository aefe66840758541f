"""The portal: pages in a browser for people with accounts."""

"""Programs that feed parsers and live connections with mutated input, without end."""

"""What every part stands on: money, clocks, identifiers, errors, compiled functions. Imports nobody."""

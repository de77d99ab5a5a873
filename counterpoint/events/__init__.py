"""Facts and decisions on the bus: frozen, tagged, grown only by new fields with defaults. Imports nobody but base."""

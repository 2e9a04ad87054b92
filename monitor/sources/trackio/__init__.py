"""Projects of Trackio, the SQLite databases that its trainers write on this machine."""

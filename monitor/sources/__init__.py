"""Where rows come from: one file or folder per kind of source."""

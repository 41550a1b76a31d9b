"""What a run looks like to a person: figures, tables and pictures in one HTML file that opens offline."""

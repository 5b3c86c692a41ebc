"""The report page: plain data in, one self-contained HTML file out. Imports neither torch nor the model."""

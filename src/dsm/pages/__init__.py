"""Pages and pictures: figures, film strips, galleries, reports."""

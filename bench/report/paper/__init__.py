"""Tables of papers: published beside measured numbers."""

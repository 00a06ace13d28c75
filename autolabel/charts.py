"""Curves and matrices as SVG that follows a page's colours."""

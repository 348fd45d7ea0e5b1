"""The pages, and what makes those that tell of the package; `benchmarks/NAME/make_page.py` makes those of figures."""

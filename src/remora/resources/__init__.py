"""Functions, versions and layers as frozen records, and the pure rules that change them."""

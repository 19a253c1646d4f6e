//! The table of patterns: every row a file, a path and what becomes of it.

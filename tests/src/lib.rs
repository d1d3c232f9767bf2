//! Programs that leak on purpose, and what the end-to-end tests share.

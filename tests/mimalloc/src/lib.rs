//! Empty: this package only names, in its manifest, a crate whose sources the tests compile.

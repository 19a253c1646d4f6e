//! Measures lbuild against its peers in one run on one machine.
fn main() {}

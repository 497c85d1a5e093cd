//! The dev server as a program.
fn main() {}

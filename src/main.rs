//! plimsoll binary
fn main() {}

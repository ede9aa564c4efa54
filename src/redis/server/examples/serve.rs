//! A server to try commands on.

fn main() {}

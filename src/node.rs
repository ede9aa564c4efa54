//! The public handle of a node: join, pick, channel, view, leave.

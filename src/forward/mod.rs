//! Bytes between callers and pods: the balanced channel, the front.

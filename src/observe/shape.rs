//! How a pod runs one model: several at once, together in batches, and how many may wait.

use std::time::Duration;

/// How one model is run on one pod, as its server's configuration says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelShape {
    /// Requests, or batches, it runs at once (Triton: the instance count). 0 counts as 1.
    pub slots: u32,
    /// Whether requests run together.
    pub batch: Option<Batching>,
    /// How many may wait before it refuses (Triton: `max_queue_size`); none where it takes all.
    pub max_queue: Option<u32>,
}

/// Requests that run together and end together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batching {
    /// Requests of one batch, at most. Twice too many costs 10 % of the mean, half of what is true up to four times it.
    pub max: u32,
    /// How long an idle slot waits for a batch to fill.
    pub delay: Duration,
    /// Whether a batch takes as long as its longest request and a share more for each other (inputs are padded to the
    /// longest), or a fixed part and a share of the sum. Padded is the safe guess: wrong, it costs a tenth; the other one
    /// wrong costs everything that batching gains.
    pub padded: bool,
    /// The share, until it is learned.
    pub slope: f32,
}

impl ModelShape {
    /// One request at a time, and all may wait.
    pub const ONE: ModelShape = ModelShape { slots: 1, batch: None, max_queue: None };
}

impl Batching {
    /// Eight together take about twice as long as one (measured on padded batches, where 0.15 is a common slope).
    pub const SLOPE: f32 = 0.15;

    /// Padded batches of at most `max` requests that start at once.
    pub const fn padded(max: u32) -> Batching {
        Batching { max, delay: Duration::ZERO, padded: true, slope: Batching::SLOPE }
    }
}

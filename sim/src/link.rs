//! What lies between two nodes: delay, jitter, loss, and walls that let nothing through, in one or both directions.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::rng::Rng;

/// One way between two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The least it takes.
    pub delay: Duration,
    /// At most this more, uniformly: datagrams overtake each other.
    pub jitter: Duration,
    /// The share of datagrams that are lost.
    pub loss: f64,
}

impl Default for Link {
    /// A data centre, pessimistically: 0.2 to 1 ms one way, no loss.
    fn default() -> Link {
        Link { delay: Duration::from_micros(200), jitter: Duration::from_micros(800), loss: 0.0 }
    }
}

/// All links, and the walls.
pub(crate) struct Links {
    pub(crate) link: Link,
    walls: BTreeSet<(usize, usize)>,
    rng: Rng,
}

impl Links {
    pub(crate) fn new(link: Link, seed: u64) -> Links {
        Links { link, walls: BTreeSet::new(), rng: Rng::new(seed, "link", 0) }
    }

    pub(crate) fn wall(&mut self, from: usize, to: usize) {
        self.walls.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.walls.clear();
    }

    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        !self.walls.contains(&(from, to))
    }

    /// One packet's time on the way.
    pub(crate) fn delay(&mut self) -> Duration {
        self.link.delay + Duration::from_nanos(self.rng.below(self.link.jitter.as_nanos() as u64 + 1))
    }

    /// A datagram's time on the way; none if it is lost.
    pub(crate) fn datagram(&mut self) -> Option<Duration> {
        let lost = self.rng.unit() < self.link.loss;
        let delay = self.delay();
        (!lost).then_some(delay)
    }

    /// A short stream's time: each loss costs a probe timeout (three round trips and 25 ms) until it gets through.
    pub(crate) fn stream(&mut self) -> Duration {
        let mut total = self.delay();
        while self.rng.unit() < self.link.loss {
            total += 6 * self.link.delay + Duration::from_millis(25);
        }
        total
    }

    /// Half the round trip as a connection would measure it.
    pub(crate) fn measured_transit(&self) -> Duration {
        self.link.delay + self.link.jitter / 2
    }
}

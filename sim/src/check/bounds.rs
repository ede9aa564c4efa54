//! How long things may take in a world of this shape: what the product promises, by the clocks and links it has here.

use std::time::Duration;

use plimsoll::gossip::refresh_every;
use plimsoll::gossip::wire::MAX_DATAGRAM;

use super::weather::Weather;
use crate::config::{Config, Join};
use crate::link::Link;
use crate::rng::Share;

/// What is due is seen at the next tick.
const TICK: Duration = Duration::from_millis(100);
/// A row counts in full for two of the periods at which it comes after the last word, and fades within one more.
const FRESH: u32 = 2;
const FADED: u32 = 3;
/// What chance may do wrong in one place, at one look: with 200,000 runs of a hundred nodes and a thousand looks, once in
/// fifty times all of it.
const NEVER: f64 = 1e-12;
/// SWIM's settings are measured up to this much loss, and for a round trip well below its 150 ms.
const FAIR_LOSS: f64 = 0.05;
const FAIR_ROUND_TRIP: Duration = Duration::from_millis(100);
/// What is promised is promised for clusters up to this size; larger ones take longer in proportion.
const SIZE: usize = 64;

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Nothing is lost between well nodes.
    pub(crate) lossless: bool,
    /// Links are as good as membership needs them.
    pub(crate) fair: bool,
    /// The longest a datagram is on its way in calm, its duplicate included.
    pub(crate) way: Duration,
    /// Between two refreshes as their receiver sees them.
    pub(crate) refresh: Duration,
    /// After this, at least one refresh got through.
    pub(crate) told: Duration,
    /// After this without a word, a row does not count in full.
    pub(crate) fresh: Duration,
    faded: Duration,
    /// After this, well nodes know each other.
    pub(crate) known: Duration,
    /// After this, the dead are known to be dead.
    pub(crate) detected: Duration,
}

impl Bounds {
    pub(crate) fn new(config: &Config) -> Bounds {
        let link = &config.link;
        let lost = lost(link);
        let late = if link.duplicate > Share::NEVER { Duration::from_secs(1) } else { Duration::ZERO };
        let once = Duration::from_micros(link.delay_us + link.jitter_us);
        let spike = if link.spike > Share::NEVER { Duration::from_millis(link.spike_ms) } else { Duration::ZERO };
        let way = once + spike + late;
        // One clock fast, the other slow; and a node takes this long to react.
        let clocks = |d: Duration| d + d * 2 * config.drift_ppm / 1_000_000 + Duration::from_micros(config.reaction_us);
        let whole = link.mtu >= MAX_DATAGRAM && link.burst == Share::NEVER;
        let refreshes = refreshes(lost);
        let crowd = (config.nodes.div_ceil(SIZE)) as u32;
        let every = refresh_every(config.nodes, config.budget_bits as f64 / 8.0);
        Bounds {
            lossless: whole && lost == 0.0,
            fair: whole && lost + link.spike.as_f64() <= FAIR_LOSS && 2 * once <= FAIR_ROUND_TRIP,
            way,
            refresh: clocks(every + TICK) + way,
            told: clocks(every + TICK) * refreshes + way,
            fresh: clocks(FRESH * every),
            faded: clocks(FADED * every + TICK) + way,
            known: clocks(Duration::from_secs(10)) * crowd,
            detected: clocks(Duration::from_secs(5) + Duration::from_millis(500) * config.nodes as u32),
        }
    }
}

impl Bounds {
    /// After this without a word, a row counts nothing: twice as late where a liar said in its origin's name that it comes
    /// twice as seldom.
    pub(crate) fn faded(&self, weather: &Weather) -> Duration {
        if weather.hostile_at.is_some() { 2 * self.faded } else { self.faded }
    }
}

/// The share of datagrams that are lost one by one.
fn lost(link: &Link) -> f64 {
    1.0 - (1.0 - link.loss.as_f64()) * (1.0 - link.corrupt.as_f64())
}

/// After so many, one got through.
fn refreshes(lost: f64) -> u32 {
    let (mut missed, mut count) = (lost, 1);
    while missed > NEVER && count < 100 {
        missed *= lost;
        count += 1;
    }
    count
}

/// Whether `nodes` are told of each other by their join lists, over any number of them: islands that were told nothing of
/// each other need not meet. `at` says who has an address now.
pub(crate) fn can_meet(join: &Join, nodes: &[usize], told: impl Fn(usize) -> Vec<usize>) -> bool {
    if *join == Join::All {
        return true;
    }
    let mut island: Vec<usize> = (0..nodes.len()).collect();
    fn root(island: &mut [usize], mut k: usize) -> usize {
        while island[k] != k {
            island[k] = island[island[k]];
            k = island[k];
        }
        k
    }
    for (k, n) in nodes.iter().enumerate() {
        for other in told(*n) {
            if let Some(other) = nodes.iter().position(|m| *m == other) {
                let (a, b) = (root(&mut island, k), root(&mut island, other));
                island[a] = b;
            }
        }
    }
    let first = root(&mut island, 0);
    (0..nodes.len()).all(|k| root(&mut island, k) == first)
}

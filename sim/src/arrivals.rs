//! When requests come: steadily, in bursts, in spikes, or as they were recorded.
//!
//! Each node draws gaps of its own, but bursts and spikes are the fleet's: the callers of a fleet serve the same public,
//! and a hundred nodes that swing each for itself add up to a calm sea. So every stream draws the same swings from the
//! same seed, and no node needs to be told.

use std::path::PathBuf;
use std::time::Duration;

use plimsoll::time::Time;
use serde::{Deserialize, Deserializer, Serialize};

use crate::bad::BadValue;
use crate::rng::{Rng, Share};

/// When requests come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Arrivals {
    /// Independent of each other: many callers that know nothing of one another.
    #[default]
    #[serde(deserialize_with = "no_more_fields")]
    Poisson,
    /// Poisson at a rate that swings between two values (MMPP(2)), half the time each: bursts that no schedule tells. The
    /// mean rate stays.
    Bursty {
        /// The rate is multiplied by 1 + swing or 1 - swing.
        #[serde(default = "swing")]
        swing: Share,
        /// Mean time between two changes, ms; exponential.
        #[serde(default = "dwell_ms")]
        dwell_ms: u64,
    },
    /// Poisson, and the rate is multiplied while a spike lasts; the first comes after one period. The spikes are on top:
    /// the mean rate rises by [`Arrivals::mean_rate`].
    Spikes {
        /// What the rate is multiplied by.
        factor: u32,
        /// From one spike's beginning to the next, ms.
        every_ms: u64,
        /// ms, less than `every_ms`.
        lasts_ms: u64,
    },
    /// The recording itself: see [`files::Trace`](crate::files::Trace).
    Recorded {
        /// CSV: `at_us,node,model,bytes,service_us`.
        file: PathBuf,
    },
}

fn swing() -> Share {
    Share::millionths(500_000)
}

fn dwell_ms() -> u64 {
    200
}

/// A variant without fields would otherwise take any field in silence.
fn no_more_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(deserializer).map(|Nothing {}| ())
}

/// A year: longer than any run, short enough for every sum.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// A node that sends less outlasts many bursts and spikes between two requests: their mean is all it sees, and adding
/// them up one by one would take for ever.
const LONGEST_GAP: Duration = Duration::from_secs(600);

impl Arrivals {
    /// Whether streams can be made of it. Files are checked where they are read.
    ///
    /// # Errors
    ///
    /// A value out of range.
    pub fn check(&self) -> Result<(), BadValue> {
        let within = |field, ms: u64, high: u64, remedy| match ms {
            ms if (1..=high).contains(&ms) => Ok(()),
            ms => Err(BadValue::new(field, ms, "is out of range", remedy)),
        };
        let year = "write milliseconds, from 1 to a year's";
        match self {
            Arrivals::Poisson | Arrivals::Recorded { .. } => Ok(()),
            Arrivals::Bursty { dwell_ms, .. } => within("arrivals.dwell_ms", *dwell_ms, LONGEST_MS, year),
            Arrivals::Spikes { factor, every_ms, lasts_ms } => {
                within("arrivals.factor", u64::from(*factor), 1000, "write a whole number from 1 to 1000")?;
                within("arrivals.every_ms", *every_ms, LONGEST_MS, year)?;
                within(
                    "arrivals.lasts_ms",
                    *lasts_ms,
                    every_ms - 1,
                    "write milliseconds, from 1 to less than `every_ms`",
                )
            }
        }
    }

    /// The mean rate over a long run, as a multiple of the rate asked for: 1 but for [`Arrivals::Spikes`].
    pub fn mean_rate(&self) -> f64 {
        match self {
            Arrivals::Spikes { factor, every_ms, lasts_ms } => {
                1.0 + (f64::from(*factor) - 1.0) * *lasts_ms as f64 / *every_ms as f64
            }
            Arrivals::Poisson | Arrivals::Bursty { .. } | Arrivals::Recorded { .. } => 1.0,
        }
    }
}

/// The requests of one node.
#[derive(Clone, Debug)]
pub struct ArrivalStream {
    gaps: Rng,
    rate: Rate,
}

/// How the rate goes, in stretches of one factor.
#[derive(Clone, Debug)]
enum Rate {
    Level,
    Bursty {
        swing: Share,
        dwell: Duration,
        high: bool,
        until: Time,
        phases: Rng,
    },
    Spikes {
        factor: u32,
        every: Duration,
        lasts: Duration,
    },
    /// Nothing: the world reads the recording.
    Never,
}

impl ArrivalStream {
    /// The stream of `node`. What [`Arrivals::check`] refuses is brought into range here.
    pub fn new(arrivals: &Arrivals, seed: u64, node: usize) -> ArrivalStream {
        let rate = match arrivals {
            Arrivals::Poisson => Rate::Level,
            Arrivals::Bursty { swing, dwell_ms } => {
                // One stream of phases for the fleet, whatever the node.
                let mut phases = Rng::new(seed, "bursts", 0);
                let dwell = Duration::from_millis((*dwell_ms).clamp(1, LONGEST_MS));
                let high = phases.hits(Share::millionths(500_000));
                let until = Time::ZERO + scaled(dwell, phases.exponential());
                Rate::Bursty { swing: *swing, dwell, high, until, phases }
            }
            Arrivals::Spikes { factor, every_ms, lasts_ms } => {
                let every_ms = (*every_ms).clamp(1, LONGEST_MS);
                let every = Duration::from_millis(every_ms);
                Rate::Spikes { factor: *factor, every, lasts: Duration::from_millis((*lasts_ms).min(every_ms)) }
            }
            Arrivals::Recorded { .. } => Rate::Never,
        };
        ArrivalStream { gaps: Rng::new(seed, "arrivals", node as u64), rate }
    }

    /// The time from `now` to the node's next request, if it sends one every `mean_gap` on average. `now` never goes
    /// back.
    pub fn next(&mut self, now: Time, mean_gap: Duration) -> Duration {
        if matches!(self.rate, Rate::Never) {
            return Duration::MAX;
        }
        // The gap in requests: at a steady rate, so many mean gaps; at any other, what the stretches of it add up to.
        let mut left = self.gaps.exponential();
        if mean_gap > LONGEST_GAP {
            return scaled(mean_gap, left);
        }
        let mut at = now;
        loop {
            let (factor, until) = self.rate.at(at);
            let needed = if factor > 0.0 { scaled(mean_gap, left / factor) } else { Duration::MAX };
            match until {
                Some(until) if at + needed >= until => {
                    let lasted = until.since(at);
                    left = (left - lasted.as_nanos() as f64 * factor / mean_gap.as_nanos().max(1) as f64).max(0.0);
                    at = until;
                }
                _ => return (at + needed).since(now),
            }
        }
    }
}

impl Rate {
    /// What the rate is multiplied by at `at`, and until when; None is for ever.
    fn at(&mut self, at: Time) -> (f64, Option<Time>) {
        match self {
            Rate::Level | Rate::Never => (1.0, None),
            Rate::Bursty { swing, dwell, high, until, phases } => {
                while *until <= at {
                    *high = !*high;
                    // At least 1 ns: a phase of nothing would never end.
                    *until = *until + scaled(*dwell, phases.exponential()).max(Duration::from_nanos(1));
                }
                let factor = if *high { 1.0 + swing.as_f64() } else { 1.0 - swing.as_f64() };
                (factor, Some(*until))
            }
            Rate::Spikes { factor, every, lasts } => {
                let (at, every) = (at.as_nanos(), every.as_nanos() as u64);
                let (period, within) = (at / every, at % every);
                let end = lasts.as_nanos() as u64;
                if period > 0 && within < end {
                    (f64::from(*factor), Some(Time::from_nanos(period * every + end)))
                } else {
                    (1.0, Some(Time::from_nanos((period + 1).saturating_mul(every))))
                }
            }
        }
    }
}

fn scaled(mean: Duration, factor: f64) -> Duration {
    Duration::from_nanos((mean.as_nanos() as f64 * factor) as u64)
}

#[cfg(test)]
mod tests;

//! What a pod can do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bad::{BadValue, within};

/// What a pod can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSpec {
    /// Requests, or batches, it runs at once.
    pub slots: u32,
    /// It refuses a request when so many wait and no slot is free; None takes all, as Triton does unless told otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queue: Option<u32>,
    /// Whether requests run together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batching: Option<Batching>,
    /// How fast pods are, in percent of what the law says, in turn: the first, the second, and the first again. All alike
    /// where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub speeds: Vec<u32>,
    /// Whether a request that was cancelled while it waited is dropped; Triton runs it all the same unless it batches.
    pub drops_cancelled: bool,
}

/// Requests that run together: a slot that is free takes what waits, oldest first, and all of it ends together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// Requests of one batch, at most.
    pub max: u32,
    /// How long an idle slot waits for a batch to fill, from the arrival of its oldest request.
    #[serde(rename = "queue_delay_us", with = "micros")]
    pub queue_delay: Duration,
    /// How long a batch runs.
    pub law: BatchLaw,
}

/// How long a batch runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BatchLaw {
    /// As its longest, and a share more for every other: requests are padded to the longest.
    Padded {
        /// The share.
        #[serde(default = "slope")]
        slope: f64,
    },
    /// A fixed part, and a share of the sum of its requests.
    Additive {
        /// ms.
        fixed_ms: f64,
        /// The share.
        per: f64,
    },
}

/// Eight together take about twice as long as one.
fn slope() -> f64 {
    0.15
}

impl Default for ServerSpec {
    fn default() -> ServerSpec {
        ServerSpec { slots: 1, max_queue: None, batching: None, speeds: Vec::new(), drops_cancelled: false }
    }
}

impl Default for Batching {
    fn default() -> Batching {
        Batching { max: 8, queue_delay: Duration::ZERO, law: BatchLaw::default() }
    }
}

impl Default for BatchLaw {
    fn default() -> BatchLaw {
        BatchLaw::Padded { slope: slope() }
    }
}

/// A `Duration` in whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(delay: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(delay.as_micros()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }
}

impl Batching {
    /// What a node reads of it in the server's configuration: how long batches take is not written there.
    pub(crate) fn as_configured(&self) -> plimsoll::observe::Batching {
        let padded = matches!(self.law, BatchLaw::Padded { .. });
        let slope = plimsoll::observe::Batching::SLOPE;
        plimsoll::observe::Batching { max: self.max, delay: self.queue_delay, padded, slope }
    }
}

impl ServerSpec {
    /// Whether a pod can be like this.
    ///
    /// # Errors
    ///
    /// A value out of range.
    pub fn check(&self) -> Result<(), BadValue> {
        within("server.slots", self.slots.into(), (1.0, 10_000.0), "write a whole number from 1 to 10000")?;
        for speed in &self.speeds {
            within(
                "server.speeds",
                (*speed).into(),
                (1.0, 10_000.0),
                "write percents from 1 to 10000; 100 is the usual",
            )?;
        }
        let Some(Batching { max, queue_delay, law }) = &self.batching else { return Ok(()) };
        within("server.batching.max", (*max).into(), (1.0, 10_000.0), "write a whole number from 1 to 10000")?;
        let delay_us = queue_delay.as_micros() as f64;
        within(
            "server.batching.queue_delay_us",
            delay_us,
            (0.0, 60e6),
            "write microseconds, from 0 to 60000000 (a minute)",
        )?;
        match law {
            BatchLaw::Padded { slope } => {
                within("server.batching.law.slope", *slope, (0.0, 100.0), "write a number from 0 to 100")
            }
            BatchLaw::Additive { fixed_ms, per } => {
                within(
                    "server.batching.law.fixed_ms",
                    *fixed_ms,
                    (0.0, 3_600_000.0),
                    "write milliseconds, from 0 to 3600000 (an hour)",
                )?;
                within("server.batching.law.per", *per, (0.0, 100.0), "write a number from 0 to 100")
            }
        }
    }

    /// How fast pod `k` is, in percent.
    pub fn speed(&self, k: usize) -> u32 {
        if self.speeds.is_empty() { 100 } else { self.speeds[k % self.speeds.len()] }
    }

    /// What `pods` of these do together, in slots of the usual speed.
    pub fn slots_of(&self, pods: usize) -> f64 {
        let speeds = (0..pods).map(|k| f64::from(self.speed(k))).sum::<f64>() / 100.0;
        speeds * f64::from(self.slots)
    }

    /// Requests that may run together.
    pub(super) fn batch_at_most(&self) -> usize {
        self.batching.as_ref().map_or(1, |batching| batching.max.max(1) as usize)
    }

    pub(super) fn queue_delay(&self) -> Duration {
        self.batching.as_ref().map_or(Duration::ZERO, |batching| batching.queue_delay)
    }

    /// How long `services` run together on a healthy pod, to the nearest nanosecond.
    pub(super) fn batch_length(&self, mut services: impl Iterator<Item = Duration>) -> Duration {
        match self.batching.as_ref().map(|batching| batching.law) {
            None => services.next().unwrap_or_default(),
            Some(BatchLaw::Padded { slope }) => {
                let (mut longest, mut others) = (services.next().unwrap_or_default(), 0.0);
                for service in services {
                    longest = longest.max(service);
                    others += 1.0;
                }
                nanos(longest.as_nanos() as f64 * (1.0 + slope * others))
            }
            Some(BatchLaw::Additive { fixed_ms, per }) => {
                nanos(fixed_ms * 1e6 + per * services.sum::<Duration>().as_nanos() as f64)
            }
        }
    }
}

fn nanos(nanos: f64) -> Duration {
    Duration::from_nanos((nanos + 0.5) as u64)
}

//! How long requests run: service-time laws, from a closed form, a histogram or a recording.
//!
//! A [`Law`] is what a plan says; [`Law::load`] checks it, reads its file, and gives [`Sizes`], which draws. Every draw
//! comes with what a picker could know of it: its bytes, from which the product learns costs, and the mean of its kind,
//! which is the best that anybody could predict from them. What is left of the service time is surprise.

mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bad::{BadValue, within};
use crate::files::{FileError, Histogram, Trace};
use crate::rng::{Rng, Share};
use table::Table;

/// How long requests run on an idle slot, and how much of it their size gives away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Law {
    /// Two kinds, each times a lognormal that nobody foresees. The default is the mix of the measurements behind the
    /// default policy: 85 % take 5 ms, 15 % take 120 ms, sigma 0.3.
    Bimodal {
        /// Mean of the small kind, ms.
        #[serde(default = "bimodal::small_ms")]
        small_ms: f64,
        /// Mean of the heavy kind, ms.
        #[serde(default = "bimodal::heavy_ms")]
        heavy_ms: f64,
        /// How many are heavy.
        #[serde(default = "bimodal::heavy")]
        heavy: Share,
        /// Of the lognormal, 0 to 3.
        #[serde(default = "bimodal::sigma")]
        sigma: f64,
    },
    /// One hump and a long tail.
    Lognormal {
        /// Mean, ms.
        mean_ms: f64,
        /// 0 to 3; the squared coefficient of variation is e^(sigma²) - 1.
        sigma: f64,
        /// Whether the bytes follow the time, so that costs can be learned; if not, all requests look alike.
        #[serde(default = "yes")]
        predictable: bool,
    },
    /// Without memory: the one that closed forms like best.
    Exponential {
        /// Mean, ms.
        mean_ms: f64,
        /// Whether the bytes follow the time, so that costs can be learned; if not, all requests look alike.
        #[serde(default = "yes")]
        predictable: bool,
    },
    /// All alike.
    Constant {
        /// Each, ms.
        mean_ms: f64,
    },
    /// A measured distribution, see [`Histogram`]; uniform within a bin. Feed it the time on the pod's slot
    /// (Triton's `nv_inference_compute_infer_duration_us`), not what callers see: that holds the queues already.
    Histogram {
        /// CSV: `le_ms,count`, cumulative as Prometheus has it.
        file: PathBuf,
        /// Whether the bytes tell the bin, so that costs can be learned; if not, all requests look alike.
        #[serde(default = "yes")]
        predictable: bool,
    },
    /// The bytes and service times of a recording, see [`Trace`], drawn at random: any number, at any load. To replay
    /// the recording itself, in its order, use [`Arrivals::Recorded`](crate::arrivals::Arrivals::Recorded).
    Recorded {
        /// CSV: `at_us,node,model,bytes,service_us`.
        file: PathBuf,
    },
}

/// The reference mix, field by field: each can be left out of a plan.
mod bimodal {
    use crate::rng::Share;

    pub(super) fn small_ms() -> f64 {
        5.0
    }

    pub(super) fn heavy_ms() -> f64 {
        120.0
    }

    pub(super) fn heavy() -> Share {
        Share::millionths(150_000)
    }

    pub(super) fn sigma() -> f64 {
        0.3
    }
}

fn yes() -> bool {
    true
}

impl Default for Law {
    fn default() -> Law {
        let (small_ms, heavy_ms) = (bimodal::small_ms(), bimodal::heavy_ms());
        Law::Bimodal { small_ms, heavy_ms, heavy: bimodal::heavy(), sigma: bimodal::sigma() }
    }
}

/// Why a law cannot be drawn from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is out of range.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// A file cannot be read or used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// One request: what a picker may know of it, and the time it will really take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The payload, from which costs are learned.
    pub bytes: u64,
    /// The mean of its kind: what a perfect estimate from the bytes would say.
    pub kind: Duration,
    /// The time it takes on a slot of its own.
    pub service: Duration,
}

impl Ask {
    /// The same where everything takes `percent` of its time.
    pub fn scaled(self, percent: u32) -> Ask {
        let scaled = |time: Duration| if percent == 100 { time } else { time * percent / 100 };
        Ask { bytes: self.bytes, kind: scaled(self.kind), service: scaled(self.service) }
    }
}

/// A law that was checked and loaded. A clone shares the tables.
#[derive(Clone, Debug)]
pub struct Sizes {
    mean: Duration,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Bimodal { small: Kind, heavy: Kind, share: Share, sigma: f64 },
    Lognormal { sigma: f64, predictable: bool },
    Exponential { predictable: bool },
    Constant,
    Table(Arc<Table>),
}

/// Requests of one size.
#[derive(Clone, Copy, Debug)]
struct Kind {
    bytes: u64,
    mean: Duration,
}

/// Payload where all look alike.
const ALIKE_BYTES: u64 = 1000;

/// Payloads of the two kinds of a bimodal law.
const SMALL_BYTES: u64 = 100;
const HEAVY_BYTES: u64 = 5000;

const MEAN_REMEDY: &str = "write milliseconds, from 0.001 to 3600000 (an hour)";
const SIGMA_REMEDY: &str = "write a number from 0 to 3";

impl Law {
    /// Checks the law and reads its file, if it has one.
    ///
    /// # Errors
    ///
    /// A value out of range, or a file that cannot be read or is malformed.
    pub fn load(&self) -> Result<Sizes, Error> {
        match self {
            Law::Bimodal { small_ms, heavy_ms, heavy, sigma } => {
                let small = Kind { bytes: SMALL_BYTES, mean: mean("law.small_ms", *small_ms)? };
                let of_heavy = Kind { bytes: HEAVY_BYTES, mean: mean("law.heavy_ms", *heavy_ms)? };
                let share = heavy.as_f64();
                let mean = small.mean.mul_f64(1.0 - share) + of_heavy.mean.mul_f64(share);
                let shape = Shape::Bimodal { small, heavy: of_heavy, share: *heavy, sigma: checked_sigma(*sigma)? };
                Ok(Sizes { mean, shape })
            }
            Law::Lognormal { mean_ms, sigma, predictable } => {
                let shape = Shape::Lognormal { sigma: checked_sigma(*sigma)?, predictable: *predictable };
                Ok(Sizes { mean: mean("law.mean_ms", *mean_ms)?, shape })
            }
            Law::Exponential { mean_ms, predictable } => {
                let shape = Shape::Exponential { predictable: *predictable };
                Ok(Sizes { mean: mean("law.mean_ms", *mean_ms)?, shape })
            }
            Law::Constant { mean_ms } => Ok(Sizes { mean: mean("law.mean_ms", *mean_ms)?, shape: Shape::Constant }),
            Law::Histogram { file, predictable } => {
                Ok(Sizes::of(Table::of_histogram(&Histogram::read(file)?, *predictable)))
            }
            Law::Recorded { file } => {
                let table = Table::of_trace(&Trace::read(file)?);
                let empty = || FileError::whole(file, "no request in it takes any time", "record some that do");
                Ok(Sizes::of(table.ok_or_else(empty)?))
            }
        }
    }
}

fn mean(field: &'static str, ms: f64) -> Result<Duration, BadValue> {
    within(field, ms, (0.001, 3_600_000.0), MEAN_REMEDY)?;
    Ok(Duration::from_nanos((ms * 1e6 + 0.5) as u64))
}

fn checked_sigma(sigma: f64) -> Result<f64, BadValue> {
    within("law.sigma", sigma, (0.0, 3.0), SIGMA_REMEDY)?;
    Ok(sigma)
}

impl Sizes {
    fn of(table: Table) -> Sizes {
        Sizes { mean: table.mean(), shape: Shape::Table(Arc::new(table)) }
    }

    /// The mean service time, never zero.
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// The next request.
    pub fn draw(&self, rng: &mut Rng) -> Ask {
        match &self.shape {
            Shape::Bimodal { small, heavy, share, sigma } => {
                let Kind { bytes, mean } = if rng.hits(*share) { *heavy } else { *small };
                Ask { bytes, kind: mean, service: times(mean, rng.lognormal(*sigma)) }
            }
            Shape::Lognormal { sigma, predictable } => self.of_one_kind(rng.lognormal(*sigma), *predictable),
            Shape::Exponential { predictable } => self.of_one_kind(rng.exponential(), *predictable),
            Shape::Constant => Ask { bytes: ALIKE_BYTES, kind: self.mean, service: self.mean },
            Shape::Table(table) => table.draw(rng),
        }
    }

    /// The next request, whose bytes are its own with this chance; else they are any other request's, and the best that can
    /// be predicted from bytes is between their kind and the mean of all.
    pub fn draw_telling(&self, rng: &mut Rng, bytes_tell: Share) -> Ask {
        let own = self.draw(rng);
        if bytes_tell == Share::ALWAYS {
            return own;
        }
        let tells = rng.hits(bytes_tell);
        let looks = if tells { own } else { self.draw(rng) };
        let share = bytes_tell.as_f64();
        let kind = looks.kind.mul_f64(share) + self.mean.mul_f64(1.0 - share);
        Ask { bytes: looks.bytes, kind, service: own.service }
    }

    fn of_one_kind(&self, factor: f64, predictable: bool) -> Ask {
        let service = times(self.mean, factor);
        if predictable {
            Ask { bytes: bytes_of(service), kind: service, service }
        } else {
            Ask { bytes: ALIKE_BYTES, kind: self.mean, service }
        }
    }
}

/// The payload of a request whose bytes follow its time: one byte a microsecond, which every half power of two of bytes
/// can tell apart from 1 µs up.
fn bytes_of(service: Duration) -> u64 {
    u64::try_from(service.as_micros()).unwrap_or(u64::MAX).max(1)
}

fn times(mean: Duration, factor: f64) -> Duration {
    Duration::from_nanos((mean.as_nanos() as f64 * factor) as u64)
}

#[cfg(test)]
mod tests;

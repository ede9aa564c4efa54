//! What clients ask for: sizes and gaps.

use std::time::Duration;

use crate::rng::Rng;

/// How long requests run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// 85 % take 5 ms, 15 % take 120 ms, times a lognormal (sigma 0.3) that nobody can foresee: the mix of the
    /// measurements behind the default policy.
    Bimodal,
    /// All take as long.
    Equal(Duration),
}

/// What a picker is told of a request's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Costs {
    /// Its bytes: the cost is learned, as in production.
    Learned,
    /// The mean of its kind.
    Given,
}

/// One request: the bytes a picker sees, the mean of its kind, and the time it will really take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) bytes: u64,
    pub(crate) kind_ms: f64,
    pub(crate) service: Duration,
}

impl Sizes {
    pub(crate) fn mean(self) -> Duration {
        match self {
            Sizes::Bimodal => Duration::from_micros(22_250),
            Sizes::Equal(service) => service,
        }
    }

    pub(crate) fn draw(self, rng: &mut Rng) -> Ask {
        match self {
            Sizes::Bimodal => {
                let (bytes, kind_ms) = if rng.unit() < 0.85 { (100, 5.0) } else { (5000, 120.0) };
                let service = Duration::from_nanos((kind_ms * 1e6 * rng.lognormal(0.3)) as u64);
                Ask { bytes, kind_ms, service }
            }
            Sizes::Equal(service) => Ask { bytes: 1000, kind_ms: service.as_secs_f64() * 1e3, service },
        }
    }
}

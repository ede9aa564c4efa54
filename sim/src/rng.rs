//! Chance, by streams: every user of chance has its own, so that adding a draw in one place moves nothing elsewhere.
//!
//! Only additions, multiplications, divisions and square roots, which IEEE 754 rounds the same on every machine; a
//! logarithm of the C library may differ in its last bit, and one bit is another run. A draw takes as much from its
//! stream whatever the odds, so that turning a fault off leaves the rest of a plan where it was.

mod math;
mod share;

pub use share::Share;

use std::time::Duration;

/// A splitmix64 stream (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `domain` (what the chance is for) and `index` (which of them) under `seed`.
    pub fn new(seed: u64, domain: &str, index: u64) -> Rng {
        let named = domain.bytes().fold(seed, |hash, byte| mix(hash ^ u64::from(byte)));
        Rng(mix(named ^ mix(index)))
    }

    /// The stream of something that has a hash: a packet's fate is its own, whatever happened to those before it.
    pub fn from_hash(hash: u64) -> Rng {
        Rng(hash)
    }

    /// Any number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / UNITS
    }

    /// Below `n`; 0 for 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Whether it happens this time.
    pub fn hits(&mut self, share: Share) -> bool {
        self.below(Share::ALWAYS.as_millionths()) < share.as_millionths()
    }

    /// From `low` to `high`, both included, to the nanosecond; `low` if `high` is less. Ends above 584 years are cut there.
    pub fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX - 1);
        low + Duration::from_nanos(self.below(nanos(high.saturating_sub(low)) + 1))
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Exponential with mean 1: the gaps of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -math::ln(1.0 - self.unit())
    }

    /// Normal with mean 0 and deviation 1, by the inverse of its distribution: one number of the stream each.
    pub fn normal(&mut self) -> f64 {
        math::quantile(((self.bits() >> 11) as f64 + 0.5) / UNITS)
    }

    /// Lognormal with mean 1 and the given sigma, at most 5.
    pub fn lognormal(&mut self, sigma: f64) -> f64 {
        math::exp(sigma * self.normal() - sigma * sigma / 2.0)
    }
}

/// What is left after `passed` of something that decays with a time constant of `tau`: e^(-passed / tau).
pub(crate) fn decay(passed: Duration, tau: Duration) -> f64 {
    math::exp(-(passed.as_nanos() as f64 / tau.as_nanos() as f64))
}

/// splitmix64's step: 2^64 over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// As many different numbers as [`Rng::unit`] gives.
const UNITS: f64 = (1_u64 << 53) as f64;

/// splitmix64's finaliser.
pub(crate) fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One number for several, in their order: for fates that hang on what a thing is, not on when it was asked about.
pub(crate) fn hash(words: &[u64]) -> u64 {
    words.iter().fold(STEP, |hash, word| mix((hash ^ word).wrapping_add(STEP)))
}

#[cfg(test)]
mod tests;

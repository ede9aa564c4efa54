//! What picks read of a pod, on one cache line: the sums of what is in flight there, and what they are divided by.
//!
//! Tickets and the core keep the sums up to date as things change, so a pick reads three words of a pod instead of adding
//! up who has what.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::Cost;
use crate::mutant::{self, Mutant};
use crate::sync::{AtomicU32, AtomicU64};

/// Own tickets in flight stand in the low bits of a word, everybody's work above them: one step changes both. Sixteen million
/// in flight on one pod would take three gigabytes of tickets. Of the work, 2^40 µs are 12 days, and of one peer a
/// hundredth of that is counted at most. Were it more in all, the sum would wrap, and be right again when that is taken back.
const OWN_BITS: u32 = 24;
const OWN: u64 = (1 << OWN_BITS) - 1;

/// Flags.
const OUT: u32 = 1;
const BATCHES: u32 = 2;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Gauge {
    /// Estimated work of all tickets and remainders, of this node and of the others, µs; and own tickets in flight.
    load: AtomicU64,
    /// Requests of the others in 1/256, because a fading row counts in part.
    peers_x256: AtomicU64,
    /// Own remainders.
    remainders: AtomicU32,
    /// How long a request waits per µs of work that stands before it, ms, as `f32` bits.
    wait_per_us: AtomicU32,
    /// Speed relative to the others, as `f32` bits.
    weight: AtomicU32,
    /// One over that.
    slowness: AtomicU32,
    slots: AtomicU32,
    flags: AtomicU32,
    /// How much higher it stands in this node's eyes than its work says, ms.
    away_ms: f32,
}

impl Default for Gauge {
    fn default() -> Gauge {
        let gauge = Gauge {
            load: AtomicU64::new(0),
            peers_x256: AtomicU64::new(0),
            remainders: AtomicU32::new(0),
            wait_per_us: AtomicU32::new(0),
            weight: AtomicU32::new(0),
            slowness: AtomicU32::new(0),
            slots: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            away_ms: 0.0,
        };
        gauge.set_capacity(1.0, 1);
        gauge
    }
}

impl Gauge {
    /// A ticket is charged here.
    pub(crate) fn charge(&self, cost: Cost) {
        self.load.fetch_add((cost.as_us() << OWN_BITS) + 1, Relaxed);
    }

    /// Takes back what [`Gauge::charge`] put there; callers hold the proof that they did.
    pub(crate) fn release(&self, cost: Cost) {
        let cost_us = if mutant::is(Mutant::CostLeaks) { 0 } else { cost.as_us() };
        let before = self.load.fetch_sub((cost_us << OWN_BITS) + 1, Relaxed);
        debug_assert!(before & OWN > 0, "a charge is taken back only by who made it");
    }

    /// A cancelled request goes on counting.
    pub(super) fn add_remainder(&self, cost: Cost) {
        self.remainders.fetch_add(1, Relaxed);
        self.load.fetch_add(cost.as_us() << OWN_BITS, Relaxed);
    }

    /// It counts no more.
    pub(super) fn remove_remainder(&self, cost: Cost) {
        self.remainders.fetch_sub(1, Relaxed);
        self.load.fetch_sub(cost.as_us() << OWN_BITS, Relaxed);
    }

    /// What a peer has here changed by wrapping differences of what that peer put there: no sum ever goes below zero.
    pub(super) fn adjust_peers(&self, count_x256: u64, cost_us: u64) {
        self.peers_x256.fetch_add(count_x256, Relaxed);
        self.load.fetch_add(cost_us << OWN_BITS, Relaxed);
    }

    /// Work of everybody, µs.
    #[inline]
    pub(crate) fn all_us(&self) -> u64 {
        self.load.load(Relaxed) >> OWN_BITS
    }

    /// The same as picks reckon with it.
    #[inline]
    pub(super) fn work_us(&self) -> f32 {
        // Signed, because processors convert that in one step.
        self.all_us().cast_signed() as f32
    }

    /// How long all work takes, ms.
    #[inline]
    pub(crate) fn all_wait_ms(&self) -> f32 {
        self.wait_ms(self.work_us())
    }

    /// How much higher it stands in this node's eyes than its work says, ms: a matter of whom to pick, and not of how long
    /// requests wait.
    #[inline]
    pub(crate) fn away_ms(&self) -> f32 {
        self.away_ms
    }

    /// Before anybody picks by it.
    pub(super) fn set_away_ms(&mut self, away_ms: f32) {
        self.away_ms = away_ms;
    }

    /// How long a request waits behind so much work, ms.
    #[inline]
    pub(super) fn wait_ms(&self, work_us: f32) -> f32 {
        work_us * f32::from_bits(self.wait_per_us.load(Relaxed))
    }

    /// Own tickets in flight.
    pub(super) fn own(&self) -> u32 {
        (self.load.load(Relaxed) & OWN) as u32
    }

    pub(super) fn remainders(&self) -> u32 {
        self.remainders.load(Relaxed)
    }

    pub(super) fn peers_x256(&self) -> u64 {
        self.peers_x256.load(Relaxed)
    }

    #[inline]
    pub(crate) fn weight(&self) -> f32 {
        f32::from_bits(self.weight.load(Relaxed))
    }

    /// Speed relative to the others, and how many times as long a request takes.
    #[inline]
    pub(crate) fn speed(&self) -> (f32, f32) {
        (self.weight(), f32::from_bits(self.slowness.load(Relaxed)))
    }

    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.slots.load(Relaxed)
    }

    /// It is so fast, and runs so many requests at once. Two at once may mix: the core looks again every second.
    pub(super) fn set_capacity(&self, speed: f64, slots: u32) {
        self.weight.store((speed as f32).to_bits(), Relaxed);
        self.slowness.store((1.0 / speed as f32).to_bits(), Relaxed);
        self.slots.store(slots, Relaxed);
        self.wait_per_us.store((1e-3 / (speed as f32 * slots as f32)).to_bits(), Release);
    }

    #[inline]
    pub(crate) fn is_out(&self) -> bool {
        self.flags.load(Relaxed) & OUT != 0
    }

    /// Ejected or not; says whether it was.
    pub(super) fn set_out(&self, out: bool) -> bool {
        self.set(OUT, out)
    }

    #[inline]
    pub(crate) fn batches(&self) -> bool {
        self.flags.load(Relaxed) & BATCHES != 0
    }

    pub(super) fn set_batches(&self, batches: bool) {
        self.set(BATCHES, batches);
    }

    fn set(&self, flag: u32, on: bool) -> bool {
        let before = if on { self.flags.fetch_or(flag, Relaxed) } else { self.flags.fetch_and(!flag, Relaxed) };
        before & flag != 0
    }
}

//! Whether a pod fails more than its like: a question of chance.
//!
//! A model may fail everywhere, because of what it is asked or because it is broken: then leaving a pod alone helps nobody. So a
//! pod is held against the other pods of the same model at the same time, and is worse only where chance alone would hardly
//! ever make it look so.

/// Requests of one model that ended with an answer or a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) served: u32,
    pub(super) failed: u32,
}

/// Chance alone makes a pod look so bad less than once in a million looks: ln(10^6). A thousandth of that, and a fleet of a
/// hundred callers and pods would leave a healthy pod alone every few minutes; a thousand times as much, and a pod that fails
/// everything needs eight failures instead of five.
const SURE: f64 = 13.8;
/// A pod that fails so much more of its requests than the others is worth leaving alone; less is a matter for its owner.
const WORSE_BY: f64 = 0.1;
/// With fewer requests a share is none.
const ENOUGH: u32 = 20;

impl Ended {
    pub(super) fn plus(self, other: Ended) -> Ended {
        Ended { served: self.served.wrapping_add(other.served), failed: self.failed.wrapping_add(other.failed) }
    }

    pub(super) fn minus(self, other: Ended) -> Ended {
        Ended { served: self.served.wrapping_sub(other.served), failed: self.failed.wrapping_sub(other.failed) }
    }

    /// What came after `before`; all of it where that was another life's, whose counts were higher.
    pub(super) fn since(self, before: Ended) -> Ended {
        let ended = self.minus(before);
        let is_later = |count: u32| count <= u32::MAX / 2;
        if is_later(ended.served) && is_later(ended.failed) { ended } else { self }
    }

    pub(super) fn all(self) -> u32 {
        self.served.saturating_add(self.failed)
    }

    /// The share that fails, for all that is known: a half where nothing is (Laplace's rule of succession).
    fn chance(self) -> f64 {
        (f64::from(self.failed) + 1.0) / (f64::from(self.served) + f64::from(self.failed) + 2.0)
    }
}

/// Whether so many failures in a row are no chance, where the others ended so since the first of them. Where nobody else served
/// anything it may be the model.
pub(super) fn in_a_row(streak: u32, others: Ended) -> bool {
    others.served > 0 && f64::from(streak) * -others.chance().ln() > SURE
}

/// Whether a pod fails a larger share of its requests than `others` do, by more than chance makes of it.
pub(super) fn worse(pod: Ended, others: Ended) -> bool {
    if pod.all() < ENOUGH || others.served == 0 {
        return false;
    }
    let (share, chance) = (f64::from(pod.failed) / f64::from(pod.all()), others.chance());
    share > chance + WORSE_BY && f64::from(pod.all()) * divergence(share, chance) > SURE
}

/// The exponent of Chernoff's bound: that `n` requests which each fail with chance `p` fail by a share of `q > p` or more has a
/// probability of at most `e^(-n divergence)`.
fn divergence(q: f64, p: f64) -> f64 {
    let part = |q: f64, p: f64| if q > 0.0 { q * (q / p).ln() } else { 0.0 };
    part(q, p) + part(1.0 - q, 1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::Draw;

    fn ended(served: u32, failed: u32) -> Ended {
        Ended { served, failed }
    }

    /// Five failures in a row are enough where the others serve, and none are where the model fails everywhere.
    #[test]
    fn a_row_of_failures_counts_by_what_the_others_do() {
        assert!(in_a_row(5, ended(14, 0)) && !in_a_row(5, ended(13, 0)));
        assert!(!in_a_row(4, ended(20, 0)), "four could be chance as long as little is known of the others");
        assert!(!in_a_row(1000, ended(0, 1000)), "the model fails everywhere");
        assert!(!in_a_row(15, ended(50, 50)) && in_a_row(20, ended(50, 50)));
        assert!(!in_a_row(12, ended(1, 0)) && in_a_row(13, ended(1, 0)), "one other was asked");
        assert!(!in_a_row(1000, ended(0, 0)), "nobody else was");
    }

    #[test]
    fn a_share_of_failures_counts_by_what_the_others_do() {
        assert!(worse(ended(80, 20), ended(1000, 3)));
        assert!(!worse(ended(80, 20), ended(800, 200)), "the others fail as much");
        assert!(!worse(ended(8000, 500), ended(100_000, 0)), "a twentieth more is not worth it");
        assert!(!worse(ended(15, 4), ended(1000, 0)), "too few");
        assert!(!worse(ended(17, 3), ended(1000, 10)), "three of twenty may be chance");
        assert!(!worse(ended(0, 0), ended(0, 0)) && !worse(ended(0, 50), ended(0, 0)), "nobody else served");
    }

    /// Twenty thousand looks at pods that fail a tenth of their requests like all others, by chance: the bound allows one of fifty
    /// such series to take a single one for worse, and this is none of them.
    #[test]
    fn chance_alone_is_hardly_ever_taken_for_evidence() {
        let others = ended(9000, 1000);
        let mut taken = 0;
        for look in 0..20_000 {
            let draw = Draw::new(7, look);
            let failed = (0..50).filter(|k| draw.below(*k, 10) == 0).count() as u32;
            taken += u32::from(worse(ended(50 - failed, failed), others));
        }
        assert_eq!(taken, 0);
    }
}

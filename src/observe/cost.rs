//! The unit of load: milliseconds of pod time, and its rounding to size classes that every node means alike.

/// The estimated work of one request, in milliseconds of pod time: finite, not negative, at most one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Cost(f64);

impl Cost {
    /// No work at all: metadata and health requests.
    pub const ZERO: Cost = Cost(0.0);
    /// The most one request is believed to cost (one hour): a wrong estimate must not fence a pod off for ever.
    pub const MAX: Cost = Cost(3_600_000.0);

    /// `ms` milliseconds, [`Cost::MAX`] where that is less; `None` where `ms` is not a number or below zero.
    pub fn from_ms(ms: f64) -> Option<Cost> {
        (ms >= 0.0).then(|| Cost(ms.min(Cost::MAX.0)))
    }

    /// Milliseconds of pod time.
    pub const fn as_ms(self) -> f64 {
        self.0
    }

    /// Whole microseconds, the unit of the counters.
    pub(crate) fn as_us(self) -> u64 {
        // In range by construction: at most 3.6e9.
        (self.0 * 1e3) as u64
    }
}

/// What requests of a model cost by their payload, as somebody who knows the model writes it down: so much for any request,
/// and so much for each KiB.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Formula {
    /// What the smallest request takes, ms.
    pub base_ms: f64,
    /// And each KiB of payload, ms.
    pub per_kib_ms: f64,
    /// No request takes less, ms.
    pub min_ms: f64,
    /// No request takes more, ms.
    pub max_ms: f64,
    /// Whether what is learned corrects it; else it always decides. Learning follows a model that changes, and is the better
    /// choice wherever bytes tell anything.
    pub learn: bool,
}

impl Formula {
    /// `base_ms` for any request, until something better is learned.
    pub fn new(base_ms: f64) -> Formula {
        Formula { base_ms, per_kib_ms: 0.0, min_ms: 0.0, max_ms: Cost::MAX.0, learn: true }
    }

    /// What it says of `bytes`, ms: a number that is a cost and is not zero, whatever stands in it.
    pub(crate) fn ms(&self, bytes: u64) -> f64 {
        let ms = self.base_ms + self.per_kib_ms * (bytes as f64 / 1024.0);
        // `max` and `min` of floats ignore what is no number.
        let bounded = ms.max(self.min_ms).min(self.max_ms);
        Cost::from_ms(bounded).unwrap_or_default().0.max(1e-3)
    }
}

/// A cost rounded to a half power of two: `floor(2 log2(cost / (1/16 ms)))`, clamped to 0..=39.
///
/// Fixed in wire version 1, so that all nodes mean the same. Class 0 is anything below 88 µs, class 39 anything from
/// 46 s up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeClass(u8);

impl SizeClass {
    /// How many classes there are.
    pub const COUNT: usize = 40;

    /// The class of `cost`. By comparisons with exact powers only, so every machine rounds alike.
    pub fn of(cost: Cost) -> SizeClass {
        // In sixteenths of a millisecond; a cost is at most 2^26 of them.
        let whole = (cost.0 * 16.0) as u64;
        let Some(octave) = whole.checked_ilog2() else { return SizeClass(0) };
        let even = 2 * octave as usize;
        let half = usize::from(cost.0 >= Self::lower_ms(even + 1));
        SizeClass((even + half).min(Self::COUNT - 1) as u8)
    }

    /// The class with number `class`, if there is one.
    pub fn new(class: u8) -> Option<SizeClass> {
        (usize::from(class) < Self::COUNT).then_some(SizeClass(class))
    }

    /// The classes whose bits are set, in order.
    pub(crate) fn in_bits(mut bits: u64) -> impl Iterator<Item = SizeClass> {
        std::iter::from_fn(move || {
            let class = SizeClass::new(bits.trailing_zeros() as u8)?;
            bits &= bits - 1;
            Some(class)
        })
    }

    /// All of them, the cheapest first.
    pub(crate) fn all() -> impl DoubleEndedIterator<Item = SizeClass> {
        (0..Self::COUNT as u8).map(SizeClass)
    }

    /// The smallest cost of it, in milliseconds.
    pub(crate) fn least_ms(self) -> f64 {
        Self::lower_ms(self.index())
    }

    /// Its number, 0..=39.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// What a request of this class costs when nothing better is known: the geometric middle of the class.
    pub fn typical(self) -> Cost {
        const FOURTH_ROOT_OF_2: f64 = 1.189_207_115_002_721;
        Cost(Self::lower_ms(self.index()) * FOURTH_ROOT_OF_2)
    }

    /// The smallest cost of class `class`, in milliseconds: 1/16 ms x 2^(class/2).
    fn lower_ms(class: usize) -> f64 {
        let whole = (1_u64 << (class / 2)) as f64 / 16.0;
        if class.is_multiple_of(2) { whole } else { whole * std::f64::consts::SQRT_2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes are part of the wire: if they moved, two versions would read each other's counts wrongly.
    #[test]
    fn size_classes_are_half_powers_of_two_of_a_sixteenth_millisecond() {
        let class = |ms| SizeClass::of(Cost::from_ms(ms).unwrap()).index();
        assert_eq!(class(0.0), 0);
        assert_eq!(class(0.0883), 0);
        assert_eq!(class(0.0884), 1);
        assert_eq!(class(1.0), 8);
        assert_eq!(class(5.0), 12);
        assert_eq!(class(120.0), 21);
        assert_eq!(class(1e9), 39);
    }

    #[test]
    fn the_typical_cost_of_a_class_is_in_the_class() {
        for class in 0..SizeClass::COUNT as u8 {
            let class = SizeClass::new(class).unwrap();
            assert_eq!(SizeClass::of(class.typical()), class);
        }
        assert_eq!(SizeClass::new(40), None);
    }

    /// Costs come from configuration and learned floats: nothing absurd may enter a counter.
    #[test]
    fn costs_are_bounded_and_never_below_zero_or_nan() {
        assert_eq!(Cost::from_ms(f64::NAN), None);
        assert_eq!(Cost::from_ms(-1.0), None);
        assert_eq!(Cost::from_ms(0.0), Some(Cost::ZERO));
        assert_eq!(Cost::from_ms(f64::INFINITY), Some(Cost::MAX));
    }
}

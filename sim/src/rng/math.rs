//! Logarithm, exponential and the normal's quantile from the four operations and the square root.
#![expect(clippy::excessive_precision, reason = "the tables stand as they were published")]

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

/// ln x for x in (0, 1], to 1e-15 of its size: halvings, then the series of the inverse hyperbolic tangent.
pub(super) fn ln(mut x: f64) -> f64 {
    let mut halvings = 0.0;
    while x < FRAC_1_SQRT_2 {
        x *= 2.0;
        halvings += 1.0;
    }
    let t = (x - 1.0) / (x + 1.0);
    // 2 / (2k + 1), from the last term to the first: |t| <= 0.172, so the next would add 3e-17 of the sum.
    const TERMS: [f64; 10] = {
        let mut terms = [0.0; 10];
        let mut k = 0;
        while k < 10 {
            terms[9 - k] = 2.0 / (2 * k + 1) as f64;
            k += 1;
        }
        terms
    };
    t * horner(t * t, &TERMS) - halvings * LN_2
}

/// e^x, to 1e-14 of its size; 0 below -700 and capped above 700. A power of two, and a series for the rest.
pub(super) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = x.min(700.0);
    let twos = (x * LOG2_E + if x < 0.0 { -0.5 } else { 0.5 }) as i64;
    let rest = x - twos as f64 * LN_2;
    // 1 / k!, from the last term to the first: |rest| <= ln 2 / 2, so the next would add 3e-17.
    const TERMS: [f64; 14] = {
        let mut terms = [0.0; 14];
        let (mut k, mut term) = (0, 1.0);
        while k < 14 {
            terms[13 - k] = term;
            k += 1;
            term /= k as f64;
        }
        terms
    };
    horner(rest, &TERMS) * f64::from_bits(((1023 + twos) as u64) << 52)
}

/// The x below which a share `p` in (0, 1) of a normal lies, to 1e-15: Wichura's algorithm AS 241 (1988).
pub(super) fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if (-0.425..=0.425).contains(&q) {
        let r = 0.180_625 - q * q;
        return q * horner(r, &MIDDLE.0) / horner(r, &MIDDLE.1);
    }
    // `sqrt` is exact to the last bit on every machine: IEEE 754 demands it, and the standard library promises it.
    let r = (-ln(if q < 0.0 { p } else { 1.0 - p })).sqrt();
    let (offset, (above, below)) = if r <= 5.0 { (1.6, &SIDE) } else { (5.0, &TAIL) };
    let size = horner(r - offset, above) / horner(r - offset, below);
    if q < 0.0 { -size } else { size }
}

/// The polynomial at `x`, its highest power first.
fn horner(x: f64, terms: &[f64]) -> f64 {
    terms.iter().fold(0.0, |sum, term| sum * x + term)
}

/// Numerator and denominator, the highest power first.
type Ratio = ([f64; 8], [f64; 8]);

/// Within 0.425 of the middle: 85 % of draws.
const MIDDLE: Ratio = (
    [
        2.509_080_928_730_122_672_7e3,
        3.343_057_558_358_812_810_5e4,
        6.726_577_092_700_870_085_3e4,
        4.592_195_393_154_987_145_7e4,
        1.373_169_376_550_946_112_5e4,
        1.971_590_950_306_551_442_7e3,
        1.331_416_678_917_843_774_5e2,
        3.387_132_872_796_366_608,
    ],
    [
        5.226_495_278_852_854_561e3,
        2.872_908_573_572_194_267_4e4,
        3.930_789_580_009_271_061e4,
        2.121_379_430_158_659_586_7e4,
        5.394_196_021_424_751_107_7e3,
        6.871_870_074_920_579_083e2,
        4.231_333_070_160_091_125_2e1,
        1.0,
    ],
);

/// Further out, to 1.4e-11 of the ends.
const SIDE: Ratio = (
    [
        7.745_450_142_783_414_076_4e-4,
        2.272_384_498_926_918_458_33e-2,
        2.417_807_251_774_506_117_7e-1,
        1.270_458_252_452_368_382_58,
        3.647_848_324_763_204_605_04,
        5.769_497_221_460_691_405_5,
        4.630_337_846_156_545_295_9,
        1.423_437_110_749_683_577_34,
    ],
    [
        1.050_750_071_644_416_843_24e-9,
        5.475_938_084_995_344_946e-4,
        1.519_866_656_361_645_719_66e-2,
        1.481_039_764_274_800_745_9e-1,
        6.897_673_349_851_000_045_5e-1,
        1.676_384_830_183_803_849_4,
        2.053_191_626_637_758_821_87,
        1.0,
    ],
);

/// The last of it.
const TAIL: Ratio = (
    [
        2.010_334_399_292_288_132_65e-7,
        2.711_555_568_743_487_578_15e-5,
        1.242_660_947_388_078_438_6e-3,
        2.653_218_952_657_612_309_3e-2,
        2.965_605_718_285_048_912_3e-1,
        1.784_826_539_917_291_335_8,
        5.463_784_911_164_114_369_9,
        6.657_904_643_501_103_777_2,
    ],
    [
        2.044_263_103_389_939_785_64e-15,
        1.421_511_758_316_445_888_7e-7,
        1.846_318_317_510_054_681_8e-5,
        7.868_691_311_456_132_591e-4,
        1.487_536_129_085_061_485_25e-2,
        1.369_298_809_227_358_053_1e-1,
        5.998_322_065_558_879_376_9e-1,
        1.0,
    ],
);

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong logarithm or exponential would change every load silently: against the library's.
    #[test]
    fn they_agree_with_the_library() {
        for x in [1e-300, 1e-16, 1e-9, 0.01, 0.3, 0.707, 0.708, 0.99, 1.0] {
            assert!((ln(x) - f64::ln(x)).abs() <= 2e-15 * f64::ln(x).abs() + 1e-17, "ln {x}");
        }
        for tenths in -6900..6900 {
            let x = f64::from(tenths) / 10.0;
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 2e-13, "e^{x}");
        }
        assert_eq!(exp(-1e9), 0.0);
        assert!(exp(1e9).is_finite());
    }

    /// A digit mistyped in a table bends the normal where nobody looks: against published quantiles of all three parts.
    #[test]
    fn the_normals_quantiles_are_the_published_ones() {
        let published = [
            (0.5, 0.0),
            (0.75, 0.674_489_750_196_081_7),
            (0.9, 1.281_551_565_544_600_4),
            (0.975, 1.959_963_984_540_054),
            (0.999, 3.090_232_306_167_813_5),
            (1e-10, -6.361_340_902_404_056),
            (1e-13, -7.348_796_102_800_586),
        ];
        for (p, x) in published {
            assert!((quantile(p) - x).abs() < 2e-9, "{p}: {}", quantile(p));
            if p > 1e-9 {
                assert!((quantile(1.0 - p) + quantile(p)).abs() < 1e-9, "{p}");
            }
        }
        // Where two parts meet they agree: a step there would be a hole in the distribution.
        for p in [0.075, 0.925, 1.388_794_386_496_402e-11] {
            let step = (quantile(p * (1.0 + 1e-12)) - quantile(p * (1.0 - 1e-12))).abs();
            assert!(step < 1e-9, "{p}: {step}");
        }
    }
}

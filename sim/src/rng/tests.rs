use super::*;

/// The mean and the variance of so many draws.
fn moments(draws: u32, mut draw: impl FnMut() -> f64) -> (f64, f64) {
    let (mut sum, mut squares) = (0.0, 0.0);
    for _ in 0..draws {
        let x = draw();
        sum += x;
        squares += x * x;
    }
    let mean = sum / f64::from(draws);
    (mean, squares / f64::from(draws) - mean * mean)
}

/// A bent distribution bends every load and every tail silently. Four standard errors of 100,000 draws: of a mean
/// 4 / sqrt(100,000) = 0.013 deviations; of a variance 4 x sqrt((kurtosis - 1) / 100,000), so 0.036 for the exponential
/// (kurtosis 9) and 0.018 for the normal (3).
#[test]
fn draws_have_the_moments_they_promise() {
    let mut rng = Rng::new(1, "test", 0);
    let (mean, variance) = moments(100_000, || rng.exponential());
    assert!((mean - 1.0).abs() < 0.013 && (variance - 1.0).abs() < 0.036, "{mean} {variance}");
    let (mean, variance) = moments(100_000, || rng.normal());
    assert!(mean.abs() < 0.013 && (variance - 1.0).abs() < 0.018, "{mean} {variance}");
    // e^(sigma^2) - 1 = 0.0942 is the variance of the lognormal: 0.013 x sqrt(0.0942) = 0.004.
    let (mean, variance) = moments(100_000, || rng.lognormal(0.3));
    assert!((mean - 1.0).abs() < 0.004 && (variance - 0.0942).abs() < 0.003, "{mean} {variance}");
}

/// The tail is what a p99.9 is made of: beyond 3 deviations lie 0.27 % of a normal, 270 +- 66 of 100,000.
#[test]
fn the_normal_has_its_tails() {
    let mut rng = Rng::new(2, "test", 0);
    let far = (0..100_000).filter(|_| rng.normal().abs() > 3.0).count();
    assert!((204..=336).contains(&far), "{far}");
}

/// Odds must be the odds, and a draw must cost the stream the same whatever they are: else switching one fault off moves
/// all the others, and shrinking a plan changes it.
#[test]
fn a_share_hits_as_often_as_it_says_and_always_draws_once() {
    let share = Share::millionths(50_000);
    let mut rng = Rng::new(3, "test", 0);
    let hits = (0..100_000).filter(|_| rng.hits(share)).count();
    // 5,000 +- 4 x sqrt(100,000 x 0.05 x 0.95).
    assert!((4725..=5275).contains(&hits), "{hits}");
    let after = |share| {
        let mut rng = Rng::new(4, "test", 0);
        let hits = (0..1000).filter(|_| rng.hits(share)).count();
        (hits, rng.bits())
    };
    assert_eq!((after(Share::NEVER).0, after(Share::ALWAYS).0), (0, 1000));
    assert_eq!(after(Share::NEVER).1, after(Share::ALWAYS).1);
}

/// Both ends of a delay can come up, nothing beyond them can, and an empty stretch is its beginning.
#[test]
fn between_keeps_its_ends() {
    let nanos = Duration::from_nanos;
    let mut rng = Rng::new(5, "test", 0);
    let mut seen = [0; 5];
    for _ in 0..1000 {
        seen[rng.between(nanos(1), nanos(3)).as_nanos() as usize] += 1;
    }
    assert_eq!((seen[0], seen[4]), (0, 0));
    assert!(seen[1..4].iter().all(|times| *times > 200), "{seen:?}");
    assert_eq!(rng.between(nanos(7), nanos(3)), nanos(7));
    assert!(rng.between(Duration::ZERO, Duration::MAX) <= nanos(u64::MAX));
}

/// All of them come up, about as often.
#[test]
fn pick_is_fair() {
    let mut rng = Rng::new(6, "test", 0);
    let mut times = [0_u32; 4];
    for _ in 0..10_000 {
        times[*rng.pick(&[0, 1, 2, 3])] += 1;
    }
    // 2,500 +- 4 x sqrt(10,000 x 1/4 x 3/4).
    assert!(times.iter().all(|times| times.abs_diff(2500) <= 173), "{times:?}");
}

/// Fates by hash must not repeat along a link or between links that differ by one: a million packets' low and high
/// halves are spread as chance would, and the order of the words matters.
#[test]
fn hashes_of_neighbours_have_nothing_in_common() {
    let mut buckets = [0_u32; 256];
    for link in 0..16 {
        for packet in 0..65_536 {
            let hash = hash(&[7, link, 1, packet]);
            buckets[(hash & 0xff) as usize] += 1;
            buckets[(hash >> 56) as usize] += 1;
        }
    }
    // 8,192 in each of 256, twice over; 5 x sqrt(8,192) = 453.
    assert!(buckets.iter().all(|count| count.abs_diff(8192) < 453), "{buckets:?}");
    assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
    assert_ne!(hash(&[0]), hash(&[0, 0]));
    assert_ne!(Rng::from_hash(hash(&[1])).bits(), Rng::from_hash(hash(&[2])).bits());
}

/// A stream that moved would change every published number: these are the first of one, for ever. An independent
/// calculation gives the same, but for the last two bits of the normal.
#[test]
fn streams_stay_what_they_are() {
    let mut rng = Rng::new(1, "arrivals", 2);
    assert_eq!([rng.bits(), rng.bits()], STREAM);
    let mut rng = Rng::new(1, "arrivals", 2);
    let drawn = [rng.exponential(), rng.normal(), rng.lognormal(0.3)].map(f64::to_bits);
    assert_eq!(drawn, DRAWN);
}

const STREAM: [u64; 2] = [2_568_206_560_003_503_789, 17_501_146_736_221_630_604];
const DRAWN: [u64; 3] = [4_594_569_440_479_263_401, 4_610_032_065_429_796_246, 4_609_574_982_529_693_074];

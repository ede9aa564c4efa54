use super::*;

/// When the requests of `node` come in `secs`, one every ms on average.
fn times(arrivals: &Arrivals, node: usize, secs: u64) -> Vec<Time> {
    let mut stream = ArrivalStream::new(arrivals, 1, node);
    let mut now = Time::ZERO;
    let next = || {
        now = now + stream.next(now, Duration::from_millis(1));
        Some(now)
    };
    std::iter::from_fn(next).take_while(|at| at.as_nanos() < secs * 1_000_000_000).collect()
}

/// The variance of the counts per window over their mean: 1 for a Poisson process.
fn dispersion(times: &[Time], window_ms: u64, secs: u64) -> f64 {
    let mut counts = vec![0.0; (secs * 1000 / window_ms) as usize];
    times.iter().for_each(|at| counts[(at.as_nanos() / (window_ms * 1_000_000)) as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / counts.len() as f64 / mean
}

/// Closed forms hold for a Poisson process and nothing like it: 200,000 requests at the rate asked for (4 x
/// sqrt(200,000)), and counts in 2,000 windows that vary as they should (4 x sqrt(2 / 2,000)).
#[test]
fn poisson_is_poisson() {
    let times = times(&Arrivals::Poisson, 0, 200);
    assert!(times.len().abs_diff(200_000) < 1789, "{}", times.len());
    let dispersion = dispersion(&times, 100, 200);
    assert!((dispersion - 1.0).abs() < 0.13, "{dispersion}");
}

/// Bursts must burst by as much as they say while the mean stays. For MMPP(2) with rates r(1 +- s) and dwell D, counts in
/// windows of w vary by 1 + r s^2 D (1 - (1 - e^-x) / x), x = 2w/D: at r = 1/ms, s = 0.5, D = 200 ms and w = 200 ms,
/// 1 + 50 x (1 - (1 - e^-2) / 2) = 29.4. The mean over 2,000 s is off by at most 4 x sqrt(2 x 50 x 2e6) / 2e6, some 3 %
/// with the Poisson part.
#[test]
fn bursts_swing_the_rate_and_keep_the_mean() {
    let bursty = Arrivals::Bursty { swing: swing(), dwell_ms: dwell_ms() };
    let times = times(&bursty, 0, 2000);
    assert!((times.len() as f64 / 2e6 - 1.0).abs() < 0.03, "{}", times.len());
    let dispersion = dispersion(&times, 200, 2000);
    assert!((dispersion / 29.4 - 1.0).abs() < 0.1, "{dispersion}");
}

/// A fleet's callers burst together: if every node swung for itself, a hundred of them would be a calm sea and the
/// scenario would test nothing. Counts of two nodes in windows half a dwell long go together; those of Poisson do not.
#[test]
fn the_fleet_bursts_as_one() {
    let correlation = |arrivals: &Arrivals| {
        let both: Vec<_> = [0, 1].iter().flat_map(|node| times(arrivals, *node, 200)).collect();
        let one = dispersion(&times(arrivals, 0, 200), 100, 200);
        // The variance of a sum is the sum of variances and twice the covariance.
        dispersion(&both, 100, 200) / one - 1.0
    };
    let bursty = correlation(&Arrivals::Bursty { swing: swing(), dwell_ms: dwell_ms() });
    assert!(bursty > 0.8, "{bursty}");
    assert!(correlation(&Arrivals::Poisson).abs() < 0.2);
    assert_ne!(times(&Arrivals::Poisson, 0, 1), times(&Arrivals::Poisson, 1, 1));
}

/// With a full swing the rate is zero half the time: the stream must wait for the next burst, not divide by zero.
#[test]
fn a_full_swing_is_silent_in_between() {
    let times = times(&Arrivals::Bursty { swing: Share::ALWAYS, dwell_ms: 200 }, 0, 200);
    assert!((times.len() as f64 / 2e5 - 1.0).abs() < 0.25, "{}", times.len());
    let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
    assert!(longest > Some(Duration::from_millis(400)), "{longest:?}");
}

/// A spike is where it was put, as high as it was asked for, and the mean rate that comes of it is told.
#[test]
fn spikes_come_when_they_should() {
    let spikes = Arrivals::Spikes { factor: 5, every_ms: 1000, lasts_ms: 100 };
    let times = times(&spikes, 0, 401);
    let within = |from, to| {
        let of_period =
            |at: &&Time| at.as_nanos() >= 1_000_000_000 && (from..to).contains(&(at.as_nanos() / 1_000_000 % 1000));
        times.iter().filter(of_period).count()
    };
    // 400 periods of 500 requests in the spike and 900 beside it; 4 x sqrt each.
    assert!(within(0, 100).abs_diff(200_000) < 1789, "{}", within(0, 100));
    assert!(within(100, 1000).abs_diff(360_000) < 2400, "{}", within(100, 1000));
    let first = times.iter().filter(|at| at.as_nanos() < 100_000_000).count();
    assert!(first < 150, "a spike before the world has settled: {first}");
    assert!((spikes.mean_rate() - 1.4).abs() < 1e-12);
}

/// A gap of hours must not be added up burst by burst, and a recording is not for this stream.
#[test]
fn rare_requests_and_recordings_return_at_once() {
    let year = Duration::from_secs(366 * 86_400);
    for arrivals in [
        Arrivals::Bursty { swing: Share::ALWAYS, dwell_ms: 1 },
        Arrivals::Spikes { factor: 2, every_ms: 2, lasts_ms: 1 },
        Arrivals::Poisson,
    ] {
        let mut stream = ArrivalStream::new(&arrivals, 1, 0);
        assert!(stream.next(Time::ZERO, year) > Duration::from_secs(1));
    }
    let recorded = Arrivals::Recorded { file: "a.csv".into() };
    assert_eq!(ArrivalStream::new(&recorded, 1, 0).next(Time::ZERO, year), Duration::MAX);
}

/// Arrivals are part of a plan: short to write, read back as they were, and a slip in them is told, not ignored.
#[test]
fn arrivals_are_read_and_written() {
    let read = |text: &str| toml::from_str::<Arrivals>(text);
    assert_eq!(read("kind = \"poisson\"").unwrap(), Arrivals::default());
    assert_eq!(read("kind = \"bursty\"").unwrap(), Arrivals::Bursty { swing: swing(), dwell_ms: 200 });
    for arrivals in [
        Arrivals::Poisson,
        Arrivals::Bursty { swing: Share::millionths(1), dwell_ms: 7 },
        Arrivals::Spikes { factor: 2, every_ms: 2, lasts_ms: 1 },
        Arrivals::Recorded { file: "a.csv".into() },
    ] {
        assert_eq!(read(&toml::to_string(&arrivals).unwrap()).unwrap(), arrivals);
    }
    for slip in ["kind = \"poisson\"\nswing = 0.5", "kind = \"bursty\"\nswing = 5", "kind = \"fractal\""] {
        let error = read(slip).unwrap_err().to_string();
        assert!(["swing", "`5`", "fractal"].iter().any(|named| error.contains(named)), "{error}");
    }
}

/// What cannot be is refused with its name; 0 ms of dwell would be a loop without end.
#[test]
fn impossible_arrivals_are_refused() {
    let cases = [
        (Arrivals::Bursty { swing: swing(), dwell_ms: 0 }, "dwell_ms = `0` is out of range: write milliseconds"),
        (Arrivals::Spikes { factor: 0, every_ms: 2, lasts_ms: 1 }, "factor = `0`"),
        (Arrivals::Spikes { factor: 2, every_ms: 0, lasts_ms: 0 }, "every_ms = `0`"),
        (Arrivals::Spikes { factor: 2, every_ms: 5, lasts_ms: 5 }, "lasts_ms = `5`"),
    ];
    for (arrivals, says) in cases {
        let error = arrivals.check().unwrap_err().to_string();
        assert!(error.starts_with(&format!("arrivals.{says}")), "{error}");
    }
}

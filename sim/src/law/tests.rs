use std::io::Write;

use super::*;
use crate::files::TraceArrival;

const DRAWS: u32 = 200_000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn drawn(law: &Law) -> Vec<Ask> {
    let sizes = law.load().unwrap();
    let mut rng = Rng::new(1, "law", 0);
    (0..DRAWS).map(|_| sizes.draw(&mut rng)).collect()
}

/// The mean in ms, and the variance over the square of the mean.
fn moments(asks: &[Ask]) -> (f64, f64) {
    let times = || asks.iter().map(|ask| ask.service.as_secs_f64() * 1e3);
    let mean = times().sum::<f64>() / asks.len() as f64;
    let variance = times().map(|t| (t - mean) * (t - mean)).sum::<f64>() / asks.len() as f64;
    (mean, variance / (mean * mean))
}

/// A file with this in it, and the folder that keeps it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.csv");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    (folder, path)
}

/// Every published figure hangs on the mix being the mix. Within four standard errors of 200,000 draws: 0.9 % of a
/// coefficient of variation.
#[test]
fn laws_have_the_moments_they_promise() {
    // Variances by hand: of the mix, (0.85 x 5^2 + 0.15 x 120^2) x e^0.09 / 22.25^2 - 1 = 3.82.
    let cases = [
        (Law::default(), 22.25, 3.82),
        (Law::Lognormal { mean_ms: 20.0, sigma: 0.5, predictable: true }, 20.0, 0.284),
        (Law::Exponential { mean_ms: 7.0, predictable: false }, 7.0, 1.0),
        (Law::Constant { mean_ms: 20.0 }, 20.0, 0.0),
    ];
    for (law, mean, scv) in cases {
        let (of_draws, squared) = moments(&drawn(&law));
        assert!((of_draws / mean - 1.0).abs() < 0.009 * f64::sqrt(scv) + 1e-9, "{law:?}: {of_draws} ms");
        assert!((squared - scv).abs() <= 0.04 * scv, "{law:?}: {squared}");
        assert_eq!(law.load().unwrap().mean(), Duration::from_micros((mean * 1e3) as u64), "{law:?}");
    }
}

/// What the bytes tell is the difference between a policy that knows costs and one that does not: the kinds of the mix
/// must differ, requests that are alike must not give themselves away, and the surprise must stay one.
#[test]
fn bytes_tell_the_kind_and_nothing_else() {
    let mix = drawn(&Law::default());
    assert!(mix.iter().all(|ask| (ask.bytes, ask.kind) == (100, ms(5)) || (ask.bytes, ask.kind) == (5000, ms(120))));
    assert!(mix.iter().any(|ask| ask.service > ask.kind) && mix.iter().any(|ask| ask.service < ask.kind));
    // 30,000 +- 4 x sqrt(200,000 x 0.15 x 0.85).
    let heavy = mix.iter().filter(|ask| ask.bytes == 5000).count();
    assert!((29_361..=30_639).contains(&heavy), "{heavy}");

    for predictable in [true, false] {
        for law in
            [Law::Exponential { mean_ms: 7.0, predictable }, Law::Lognormal { mean_ms: 7.0, sigma: 1.0, predictable }]
        {
            let as_foretold = |ask: &Ask| match predictable {
                true => ask.kind == ask.service && ask.bytes == (ask.service.as_micros() as u64).max(1),
                false => ask.kind == ms(7) && ask.bytes == 1000,
            };
            assert!(drawn(&law).iter().all(as_foretold), "{law:?}");
        }
    }
}

/// A histogram's draws must fall back into its bins as counted, evenly within each, and never into one that counts none.
#[test]
fn a_histogram_is_drawn_as_it_was_counted() {
    let (_kept, path) = file("le_ms,count\n1,0\n5,60\n10,60\n20,100\n+Inf,100\n");
    let asks = drawn(&Law::Histogram { file: path.clone(), predictable: true });
    let within = |low, high| asks.iter().filter(|ask| (ms(low)..ms(high)).contains(&ask.service)).count();
    assert_eq!((within(0, 1), within(6, 10), within(21, 1000)), (0, 0, 0));
    // 120,000 +- 4 x sqrt(200,000 x 0.6 x 0.4), half of it below the middle of the bin.
    assert!(within(1, 5).abs_diff(120_000) < 876, "{}", within(1, 5));
    assert!(within(1, 3).abs_diff(60_000) < 820, "{}", within(1, 3));
    assert!(asks.iter().all(|ask| ask.kind == if ask.service <= ms(5) { ms(3) } else { ms(15) }));
    assert!(asks.iter().all(|ask| ask.bytes == ask.kind.as_micros() as u64));
    let sizes = Law::Histogram { file: path, predictable: false }.load().unwrap();
    assert_eq!(sizes.mean(), Duration::from_micros(7800));
    let ask = sizes.draw(&mut Rng::new(1, "law", 0));
    assert_eq!((ask.kind, ask.bytes), (sizes.mean(), 1000));
}

/// What was recorded comes up as often as it was recorded, and a perfect guess from the bytes is the mean of that size,
/// no better: sizes within a half power of two are one.
#[test]
fn a_recording_is_drawn_as_it_was_recorded() {
    let arrival =
        |bytes, service| TraceArrival { at: Duration::ZERO, node: 0, model: "m".into(), bytes, service: ms(service) };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.csv");
    let mut trace = Trace { arrivals: vec![arrival(1000, 4), arrival(1001, 8), arrival(9000, 90)] };
    trace.write(&file).unwrap();
    let law = Law::Recorded { file: file.clone() };
    assert_eq!(law.load().unwrap().mean(), ms(34));
    let asks = drawn(&law);
    for (bytes, kind, service) in [(1000, 6, 4), (1001, 6, 8), (9000, 90, 90)] {
        let same = Ask { bytes, kind: ms(kind), service: ms(service) };
        // 66,667 +- 4 x sqrt(200,000 x 1/3 x 2/3).
        let times = asks.iter().filter(|ask| **ask == same).count();
        assert!(times.abs_diff(66_667) < 844, "{same:?} {times} times");
    }
    trace.arrivals.clear();
    trace.write(&file).unwrap();
    let error = law.load().unwrap_err().to_string();
    assert!(
        error.ends_with("file.csv: no request in it takes any time: record some that do")
            || error.contains("no request")
    );
}

/// A law is part of a plan: short to write, read back as it was, and a slip in it is told, not ignored.
#[test]
fn laws_are_read_and_written() {
    assert_eq!(toml::from_str::<Law>("kind = \"bimodal\"").unwrap(), Law::default());
    for law in [
        Law::default(),
        Law::Lognormal { mean_ms: 20.0, sigma: 0.5, predictable: false },
        Law::Exponential { mean_ms: 7.0, predictable: true },
        Law::Constant { mean_ms: 0.1 },
        Law::Histogram { file: "a.csv".into(), predictable: true },
        Law::Recorded { file: "b.csv".into() },
    ] {
        assert_eq!(toml::from_str::<Law>(&toml::to_string(&law).unwrap()).unwrap(), law);
    }
    let mean = toml::from_str::<Law>("kind = \"exponential\"\nmean_ms = 5").unwrap();
    assert_eq!(mean, Law::Exponential { mean_ms: 5.0, predictable: true });
    let slip = toml::from_str::<Law>("kind = \"bimodal\"\nheavvy = 0.2").unwrap_err().to_string();
    assert!(slip.contains("heavvy"), "{slip}");
}

/// A mean of zero is a division by zero further on; the message must name the option, the value and the remedy.
#[test]
fn impossible_laws_are_refused() {
    let Law::Bimodal { small_ms, heavy, sigma, .. } = Law::default() else { unreachable!("the default is the mix") };
    let cases = [
        (Law::Constant { mean_ms: 0.0 }, "mean_ms = `0` is out of range: write milliseconds"),
        (Law::Constant { mean_ms: f64::NAN }, "mean_ms = `NaN`"),
        (Law::Exponential { mean_ms: -1.0, predictable: true }, "mean_ms = `-1`"),
        (Law::Lognormal { mean_ms: 1.0, sigma: 9.0, predictable: true }, "sigma = `9` is out of range: write a number"),
        (Law::Bimodal { small_ms, heavy_ms: f64::INFINITY, heavy, sigma }, "heavy_ms = `inf`"),
    ];
    for (law, says) in cases {
        let error = law.load().unwrap_err().to_string();
        assert!(error.starts_with(&format!("law.{says}")), "{error}");
    }
}

//! Means of runs with an error that can be trusted, and their comparison with theory.
//!
//! What one request met says something of the next: in a busy queue thousands of neighbours share one fate, and an error
//! computed as if they were independent would be ten times too small. Means of long batches are independent, nearly; their
//! spread gives the error of the mean of all (batch means, Law and Kelton). A batch must be many times as long as the
//! queue's memory, 1 / (mu (1 - sqrt(rho))^2) for M/M/1: 90 services at a load of 0.8.

use std::fmt::Write;

/// As many as give the error of a mean to a sixth, with a correction of its own (Student's) of a few percent.
pub(crate) const BATCHES: usize = 20;

/// With 19 degrees of freedom a fresh seed would exceed so many standard errors once in 1,300 comparisons. The seeds are
/// fixed: a comparison passes for ever, or a change of the world is to be looked at.
const Z: f64 = 4.0;

/// How much longer runs are than a debug build does in seconds: ten times, with errors a third as large, where
/// `PLIMSOLL_LONG` is set (`tests/run --long`).
pub(crate) fn effort() -> f64 {
    if std::env::var_os("PLIMSOLL_LONG").is_some() { 10.0 } else { 1.0 }
}

/// A mean and its standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) error: f64,
}

impl Estimate {
    /// Of values that are independent.
    pub(crate) fn of(values: &[f64]) -> Estimate {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Estimate { mean, error: (squares / (n - 1.0) / n).sqrt() }
    }

    /// Of values that depend on those shortly before them.
    pub(crate) fn of_batches(values: &[f64]) -> Estimate {
        let length = values.len() / BATCHES;
        assert!(length > 0, "{} values are no batches", values.len());
        let means: Vec<f64> =
            values.chunks_exact(length).map(|batch| batch.iter().sum::<f64>() / length as f64).collect();
        Estimate::of(&means)
    }

    /// Of a value whose standard error theory knows.
    pub(crate) fn known(mean: f64, error: f64) -> Estimate {
        Estimate { mean, error }
    }
}

/// Theory beside measurement, a row each, printed as a table when a test is over (`--nocapture` shows it).
#[derive(Default)]
pub(crate) struct Table {
    rows: String,
    wrong: Vec<String>,
}

impl Table {
    /// Notes a row, and whether the two agree: within [`Z`] standard errors, which must be less than `most` of the theory,
    /// or the comparison would say nothing. `most` is for runs of [`effort`] 1.
    pub(crate) fn row(&mut self, what: &str, theory: f64, measured: Estimate, most: f64) {
        let Estimate { mean, error } = measured;
        let (off, most) = ((mean - theory) / error, most / effort().sqrt());
        let row = format!("{what:<52}{theory:>12.5}{mean:>12.5} ± {error:<9.5}{off:>6.1}");
        let within = Z * error / theory;
        if off.abs() > Z || off.is_nan() {
            self.wrong.push(format!("{row}  differs by more than {Z} standard errors"));
        } else if within > most {
            self.wrong.push(format!("{row}  is known to {:.1} % only, not {:.1} %", within * 100.0, most * 100.0));
        }
        writeln!(self.rows, "{row}").expect("a string takes all");
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        println!("{:<52}{:>12}{:>12}   {:<9}{:>6}\n{}", "", "theory", "measured", "error", "off", self.rows);
        if !std::thread::panicking() {
            assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
        }
    }
}

/// The mean of batches is the mean of all, and batches see a dependence that single values hide: of a series in which
/// every value comes a hundred times, the error is ten times that of independent ones.
#[test]
fn batches_see_what_single_values_hide() {
    let mut state = 7_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let alone: Vec<f64> = (0..400).map(|_| draw()).collect();
    let repeated: Vec<f64> = alone.iter().flat_map(|value| [*value; 100]).collect();
    let (naive, batched) = (Estimate::of(&repeated), Estimate::of_batches(&repeated));
    assert!((naive.mean - batched.mean).abs() < 1e-9);
    let ratio = batched.error / naive.error;
    // 20 batches know an error to a sixth; three of them.
    assert!((5.0..15.0).contains(&ratio), "{ratio}");
}

//! The checkers: none cries wolf on correct code, and each bites what it is there for.

mod plans;

use plimsoll_sim::check::{Marks, guarded};

/// Runs plans by chance; says how often each rule was judged.
fn run_all(seeds: std::ops::Range<u64>) -> Marks {
    let mut marks = Marks::default();
    let (mut inputs, mut failed) = (0, Vec::new());
    for seed in seeds {
        let plan = plans::mixed(seed);
        match guarded(&plan) {
            Ok(passed) => {
                marks.merge(&passed.marks);
                inputs += passed.inputs;
            }
            Err(failure) => {
                println!("seed {seed}: {failure:?}");
                failed.push((seed, failure.checker));
            }
        }
    }
    println!("{inputs} inputs");
    for (rule, times) in marks.iter() {
        println!("{times:>12} {}", rule.id());
    }
    assert!(failed.is_empty(), "{failed:?}");
    marks
}

/// As many as wanted: `SEEDS=0..1000 cargo test --release -p plimsoll-sim --test checkers -- --ignored --nocapture`.
#[test]
#[ignore = "as long as wanted"]
fn many_plans_by_chance_break_no_rule() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0..100".into());
    let (from, to) = seeds.split_once("..").expect("two numbers");
    run_all(from.parse().unwrap()..to.parse().unwrap());
}

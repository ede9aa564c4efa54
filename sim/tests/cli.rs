//! What a person meets who types something wrong: one line with the value and what to write instead, before anything runs.

use std::process::Command;

fn complaint(words: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_plimsoll-sim")).args(words.split(' ')).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}: {said}");
    assert_eq!(said.lines().count(), 1, "{words}: {said}");
    said
}

#[test]
fn a_wrong_number_is_named_with_its_flag_and_a_remedy() {
    for (words, value, remedy) in [
        ("run --slots abc", "'abc' for '--slots", "write a whole number"),
        ("run --slots -1", "'-1' for '--slots", "0..=4294967295"),
        ("run --slotts 1", "'--slotts'", "see --help"),
        ("run --zipf 0.5", "'0.5' for '--zipf", "write a whole number"),
        ("run --speeds 140,abc", "'abc' for '--speeds", "write a whole number"),
        ("run --cost-error x", "'x' for '--cost-error", "write a number"),
        ("run --cost-error -1", "clients.cost_error = `-1`", "a sigma from 0 to 3"),
        ("run --cost-error 1e300", "clients.cost_error = `1e300`", "a sigma from 0 to 3"),
        ("run --load -0.5", "`-0.5` is no load", "such as 0.85"),
        ("run --retries 4000000000", "clients.retries = `4000000000`", "at most 16"),
        ("run --strict-timeout-us 0", "strict.timeout_us = `0`", "100 to 1000000"),
        ("run --slow-start-ms 18446744073709551615", "slow_start_ms", "at most 3600000"),
        ("run --shards 60000", "strict.shards = `60000`", "at most 1024"),
        ("run --budget-bits 0", "budget_bits = `0`", "1 or more"),
        ("compare --jobs 0", "'0' for '--jobs", "write a whole number"),
        ("sustain --p99-ms nan", "--p99-ms `NaN`", "milliseconds above 0"),
        ("sustain --p99-ms -5", "--p99-ms `-5e0`", "milliseconds above 0"),
        ("sustain --p99-ms 100 --between 2,1", "--between `2,1`", "a lower and a higher load"),
        ("sustain --p99-ms 100 --within 0", "--within `0e0`", "from 0.001 to 1"),
        ("detect --nodes -3", "'-3' for '--nodes", "write a whole number"),
    ] {
        let said = complaint(words);
        assert!(said.contains(value) && said.contains(remedy), "{words}: {said}");
    }
}

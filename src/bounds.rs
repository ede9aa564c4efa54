//! What settings may be, the same for who writes them into a file and for who sets them in a program.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::{pod_url, shown};
use crate::core::{Health, Strict};
use crate::observe::{Cost, Formula, PodSpec};
use crate::redis::StateOptions;

/// Gossip budget, bit/s: less than a few datagrams a second tells nothing, more than a network card is no bound.
pub(crate) const BUDGET_BITS: RangeInclusive<u64> = 10_000..=10_000_000_000;
/// How long a pick of strict mode may wait, ms.
pub(crate) const STRICT_TIMEOUT_MS: RangeInclusive<f64> = 0.1..=1000.0;
/// How long a pod may start slowly, s.
pub(crate) const SLOW_START_S: RangeInclusive<f64> = 0.0..=3600.0;
/// How often pods are asked which models they have, s: more often would keep them from their work; zero is never.
pub(crate) const HEALTH_INTERVAL_S: RangeInclusive<f64> = 0.0..=3600.0;
/// Failures in a row after which a pod is left alone for a model, at most.
pub(crate) const MOST_FAILURES: u32 = 1000;
/// How long it is at first, s.
pub(crate) const HEALTH_EJECT_S: RangeInclusive<f64> = 0.1..=300.0;
/// How long a pod that hangs may say nothing with requests in flight there, s; zero is for ever.
pub(crate) const HEALTH_GIVE_UP_S: RangeInclusive<f64> = 0.0..=3600.0;
/// Shorter than the question whether it lives may take, it is no question.
const LEAST_GIVE_UP: Duration = Duration::from_secs(1);
/// The share of a model's pods that must be left.
pub(crate) const PANIC_SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// How often they may be asked, where they are.
const LEAST_HEALTH_INTERVAL: Duration = Duration::from_millis(100);
/// How much higher pods in other zones may stand, ms.
pub(crate) const ZONE_PENALTY_MS: RangeInclusive<f64> = 0.0..=60_000.0;
/// How long a pick may wait for the shared Redis, ms.
pub(crate) const STATE_DEADLINE_MS: RangeInclusive<f64> = 0.1..=1000.0;
/// How often a node says there that it lives, and after which silence it is dead, s.
pub(crate) const STATE_HEARTBEAT_S: RangeInclusive<f64> = 0.1..=60.0;
pub(crate) const STATE_RECLAIM_S: RangeInclusive<f64> = 0.3..=3600.0;
/// Heartbeats that may be lost before a node is dead.
const HEARTBEATS: u32 = 3;
/// The longest prefix of keys.
const LONGEST_PREFIX: usize = 128;
/// A pod's speed relative to the others.
pub(crate) const WEIGHT: RangeInclusive<f64> = 0.001..=1000.0;
/// Requests, or batches, that a pod runs at once, at most.
pub(crate) const MOST_SLOTS: u32 = 65_535;
/// Requests that run together, at most.
const MOST_BATCHED: u32 = 65_535;
/// What one request more adds to a batch, as a share.
const SLOPE: RangeInclusive<f64> = 0.0..=1.0;
/// How long an idle slot waits for a batch to fill, ms.
const BATCH_DELAY_MS: RangeInclusive<f64> = 0.0..=60_000.0;

/// A setting that cannot be used. Nothing was started or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {remedy}")]
#[non_exhaustive]
pub struct InvalidSetting {
    /// The setting, as it is written in a program: `pods[3].weight`.
    pub field: String,
    /// What is wrong, with the value in backticks.
    pub problem: String,
    /// What to set instead.
    pub remedy: String,
}

impl InvalidSetting {
    fn new(field: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> InvalidSetting {
        InvalidSetting { field: field.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// A number as people write it: 1e300 and not three hundred digits.
pub(crate) fn number(value: f64) -> String {
    if value != 0.0 && !(1e-6..1e15).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() }
}

/// What to answer where `value` is not in `range`. NaN is in no range.
pub(crate) fn within(value: f64, range: &RangeInclusive<f64>) -> Result<(), (String, String)> {
    if range.contains(&value) {
        return Ok(());
    }
    let remedy = format!("write {} to {}", number(*range.start()), number(*range.end()));
    Err((format!("`{}` is out of range", number(value)), remedy))
}

fn float(field: impl Display, value: f64, range: &RangeInclusive<f64>) -> Result<(), InvalidSetting> {
    within(value, range).map_err(|(problem, remedy)| InvalidSetting::new(field.to_string(), problem, remedy))
}

pub(crate) fn check_budget(bits: u64) -> Result<(), InvalidSetting> {
    if BUDGET_BITS.contains(&bits) {
        return Ok(());
    }
    let remedy = format!("write {} to {} bit/s; the default is 1000000", BUDGET_BITS.start(), BUDGET_BITS.end());
    Err(InvalidSetting::new("budget_bits", format!("`{bits}` is out of range"), remedy))
}

pub(crate) fn check_strict(strict: &Strict) -> Result<(), InvalidSetting> {
    // Wider than in a file: next to nothing makes picks local, seconds let a slow machine be tried.
    float("strict.timeout (ms)", ms(strict.timeout), &(0.0..=60_000.0))
}

pub(crate) fn check_state(state: &StateOptions) -> Result<(), InvalidSetting> {
    let wrong = |field: &str, (problem, remedy)| InvalidSetting::new(field, problem, remedy);
    // Wider than in a file, as strict mode's.
    float("state.deadline (ms)", ms(state.deadline), &(0.0..=60_000.0))?;
    float("state.heartbeat (s)", state.heartbeat.as_secs_f64(), &STATE_HEARTBEAT_S)?;
    float("state.reclaim (s)", state.reclaim.as_secs_f64(), &STATE_RECLAIM_S)?;
    state_reclaim(state.heartbeat, state.reclaim).map_err(|answer| wrong("state.reclaim (s)", answer))?;
    let prefix = state.prefix.as_deref();
    prefix.map_or(Ok(()), state_prefix).map_err(|answer| wrong("state.prefix", answer))
}

/// What to answer where nodes that live would be taken for dead.
pub(crate) fn state_reclaim(heartbeat: Duration, reclaim: Duration) -> Result<(), (String, String)> {
    let least = heartbeat * HEARTBEATS;
    if reclaim >= least {
        return Ok(());
    }
    let problem = format!("`{}` would take nodes for dead that live", number(reclaim.as_secs_f64()));
    let remedy = format!("write {HEARTBEATS} heartbeats at least: {}", number(least.as_secs_f64()));
    Err((problem, remedy))
}

/// What to answer where keys could lie apart, or be told from nobody's.
pub(crate) fn state_prefix(prefix: &str) -> Result<(), (String, String)> {
    let wrong = |problem: &str| Err((format!("{} {problem}", shown(prefix)), "write it as in `{fleet}:`".to_owned()));
    let inner = prefix.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    match inner {
        _ if prefix.len() > LONGEST_PREFIX => wrong("is longer than 128 bytes"),
        _ if prefix.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            wrong("has white space or control characters")
        }
        // Redis keeps keys together by what stands in the first braces.
        None | Some(("", _)) => wrong("has nothing in braces, which keeps all keys in one slot"),
        Some(_) => Ok(()),
    }
}

pub(crate) fn check_costs(costs: &BTreeMap<Box<str>, Formula>) -> Result<(), InvalidSetting> {
    costs.iter().try_for_each(|(model, formula)| {
        let at = |field: &str| format!("costs[`{}`].{field}", model.escape_debug());
        check_formula(formula).map_err(|wrong| InvalidSetting { field: at(&wrong.field), ..wrong })
    })
}

pub(crate) fn check_slow_start(window: Duration) -> Result<(), InvalidSetting> {
    float("slow_start (s)", window.as_secs_f64(), &SLOW_START_S)
}

pub(crate) fn check_health(health: &Health) -> Result<(), InvalidSetting> {
    let seconds = health.interval.as_secs_f64();
    float("health.interval (s)", seconds, &HEALTH_INTERVAL_S)?;
    float("health.failures", f64::from(health.failures), &(0.0..=f64::from(MOST_FAILURES)))?;
    float("health.eject (s)", health.eject.as_secs_f64(), &HEALTH_EJECT_S)?;
    float("health.panic_share", health.panic_share, &PANIC_SHARE)?;
    let give_up = health.give_up.as_secs_f64();
    float("health.give_up (s)", give_up, &HEALTH_GIVE_UP_S)?;
    let wrong = |field: &str, (problem, remedy)| InvalidSetting::new(field, problem, remedy);
    health_interval(seconds).map_err(|answer| wrong("health.interval (s)", answer))?;
    health_give_up(give_up).map_err(|answer| wrong("health.give_up (s)", answer))
}

/// What to answer where pods would be asked so often that it keeps them from their work.
pub(crate) fn health_interval(seconds: f64) -> Result<(), (String, String)> {
    never_or(LEAST_HEALTH_INTERVAL, seconds, &HEALTH_INTERVAL_S)
}

/// What to answer where pods would be given up before they can have answered.
pub(crate) fn health_give_up(seconds: f64) -> Result<(), (String, String)> {
    never_or(LEAST_GIVE_UP, seconds, &HEALTH_GIVE_UP_S)
}

fn never_or(least: Duration, seconds: f64, range: &RangeInclusive<f64>) -> Result<(), (String, String)> {
    let least = least.as_secs_f64();
    if seconds == 0.0 || seconds >= least {
        return Ok(());
    }
    let remedy = format!("write 0 (never) or {} to {}", number(least), number(*range.end()));
    Err((format!("`{}` is out of range", number(seconds)), remedy))
}

pub(crate) fn check_zone_penalty(penalty: Duration) -> Result<(), InvalidSetting> {
    float("zone_penalty (ms)", ms(penalty), &ZONE_PENALTY_MS)
}

/// Whether a formula says what any request costs.
pub(crate) fn check_formula(formula: &Formula) -> Result<(), InvalidSetting> {
    let Formula { base_ms, per_kib_ms, min_ms, max_ms, .. } = *formula;
    let fields = [("base_ms", base_ms), ("per_kib_ms", per_kib_ms), ("min_ms", min_ms), ("max_ms", max_ms)];
    fields.into_iter().try_for_each(|(field, ms)| float(field, ms, &(0.0..=Cost::MAX.as_ms())))?;
    if base_ms > max_ms {
        let problem = format!("`{}` is more than max_ms, `{}`", number(base_ms), number(max_ms));
        return Err(InvalidSetting::new("base_ms", problem, "raise max_ms: nothing would cost what base_ms says"));
    }
    if min_ms > max_ms {
        let problem = format!("`{}` is more than max_ms, `{}`", number(min_ms), number(max_ms));
        return Err(InvalidSetting::new("min_ms", problem, "write the smaller one as min_ms"));
    }
    Ok(())
}

/// Whether picks can go by what is said of these pods.
pub(crate) fn check_pods(pods: &[PodSpec]) -> Result<(), InvalidSetting> {
    let mut names = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for (k, pod) in pods.iter().enumerate() {
        let at = |field: &str| format!("pods[{k}].{field}");
        check_pod(pod).map_err(|wrong| InvalidSetting { field: at(&wrong.field), ..wrong })?;
        // A name twice would merge two pods in every metric; an incarnation twice would charge one pod as two.
        let address = pod.uid.as_ref().map_or(("grpc", &pod.grpc), |uid| ("uid", uid));
        let named = names.insert(&pod.name, k).map(|first| ("name", &pod.name, first));
        let known = ids.insert(pod.id(), k).map(|first| (address.0, address.1, first));
        if let Some((field, value, first)) = known.or(named) {
            let problem = format!("{} is taken by pods[{first}]", shown(value));
            return Err(InvalidSetting::new(at(field), problem, "each pod is listed once"));
        }
    }
    Ok(())
}

fn check_pod(pod: &PodSpec) -> Result<(), InvalidSetting> {
    let at_most = |field: &str, value: u32, most: u32| {
        let wrong =
            || InvalidSetting::new(field, format!("`{value}` is out of range"), format!("write at most {most}"));
        if value <= most { Ok(()) } else { Err(wrong()) }
    };
    pod_url(&pod.grpc).map_err(|(problem, remedy)| InvalidSetting::new("grpc", problem, remedy))?;
    float("weight", pod.weight, &WEIGHT)?;
    at_most("slots", pod.slots, MOST_SLOTS)?;
    let Some(batching) = pod.batching else { return Ok(()) };
    at_most("batching.max", batching.max, MOST_BATCHED)?;
    if batching.max == 0 {
        return Err(InvalidSetting::new("batching.max", "`0` runs nothing", "write at least 1"));
    }
    float("batching.slope", f64::from(batching.slope), &SLOPE)?;
    float("batching.delay (ms)", ms(batching.delay), &BATCH_DELAY_MS)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Batching;

    /// Whoever sets these in a program has no file whose line could be named: the field and the value must do.
    #[test]
    fn each_wrong_setting_is_named_with_its_value() {
        let said = |wrong: Result<(), InvalidSetting>| wrong.unwrap_err().to_string();
        assert_eq!(
            said(check_budget(0)),
            "budget_bits: `0` is out of range; write 10000 to 10000000000 bit/s; the default is 1000000"
        );
        let strict = Strict { timeout: Duration::MAX, ..Strict::default() };
        assert!(said(check_strict(&strict)).ends_with("is out of range; write 0 to 60000"));
        let health = Health { interval: Duration::from_millis(1), ..Health::default() };
        assert_eq!(
            said(check_health(&health)),
            "health.interval (s): `0.001` is out of range; write 0 (never) or 0.1 to 3600"
        );
        let health = Health { panic_share: f64::NAN, ..Health::default() };
        assert_eq!(said(check_health(&health)), "health.panic_share: `NaN` is out of range; write 0 to 1");
        assert!(said(check_zone_penalty(Duration::MAX)).ends_with("is out of range; write 0 to 60000"));
        let formula = |base_ms, max_ms| Formula { max_ms, ..Formula::new(base_ms) };
        let redis = || StateOptions::new("redis://h".parse().unwrap());
        assert_eq!(check_state(&redis()), Ok(()));
        let hasty = StateOptions { heartbeat: Duration::from_secs(5), ..redis() };
        assert_eq!(
            said(check_state(&hasty)),
            "state.reclaim (s): `10` would take nodes for dead that live; write 3 heartbeats at least: 15"
        );
        for prefix in ["", "a:", "{}:", "{a b}", "{a"] {
            let bare = StateOptions { prefix: Some(prefix.into()), ..redis() };
            assert!(said(check_state(&bare)).starts_with(&format!("state.prefix: `{prefix}` has ")), "{prefix}");
        }
        let costs = |formula| check_costs(&BTreeMap::from([("m".into(), formula)]));
        assert_eq!(said(costs(formula(-1.0, 5.0))), "costs[`m`].base_ms: `-1` is out of range; write 0 to 3600000");
        assert!(said(costs(formula(1e300, 5.0))).starts_with("costs[`m`].base_ms: `1e300` is out of range"));
        assert!(said(costs(formula(1.0, f64::NAN))).starts_with("costs[`m`].max_ms: `NaN` is out of range"));
        assert_eq!(costs(formula(1.0, 5.0)), Ok(()));

        let pod = |name: &str, port: u32| PodSpec::new(name, format!("http://10.0.0.1:{port}"));
        let with = |change: &dyn Fn(&mut PodSpec)| {
            let mut second = pod("b", 2);
            change(&mut second);
            check_pods(&[pod("a", 1), second])
        };
        assert_eq!(with(&|_| {}), Ok(()));
        assert_eq!(said(with(&|p| p.weight = f64::NAN)), "pods[1].weight: `NaN` is out of range; write 0.001 to 1000");
        assert_eq!(said(with(&|p| p.slots = 70_000)), "pods[1].slots: `70000` is out of range; write at most 65535");
        assert_eq!(
            said(with(&|p| p.name = "a".into())),
            "pods[1].name: `a` is taken by pods[0]; each pod is listed once"
        );
        let twice = with(&|p| p.grpc = "10.0.0.1:1".into());
        assert_eq!(said(twice), "pods[1].grpc: `10.0.0.1:1` is taken by pods[0]; each pod is listed once");
        let batches = |max, slope| Some(Batching { slope, ..Batching::padded(max) });
        assert!(said(with(&|p| p.batching = batches(0, 0.1))).starts_with("pods[1].batching.max: `0` runs nothing"));
        assert!(said(with(&|p| p.batching = batches(8, f32::NAN))).starts_with("pods[1].batching.slope: `NaN`"));
    }
}

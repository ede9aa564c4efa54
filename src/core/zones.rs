//! Pods in another zone stand a little higher.
//!
//! A soft penalty, in the unit in which picks compare: while the own zone's pods are lower than the others' by less than
//! it, requests stay at home; what is more goes where there is room. No zone is ever full or empty for it, and no pod is
//! left out: where the own zone has none, all stand equally high.

use std::time::Duration;

use super::CoreConfig;
use crate::observe::PodSpec;

/// What another zone costs unless a node is told otherwise: the round trip between zones of a region takes 1 to 2 ms, so
/// that a request is behind by so much there in fact. Who pays for traffic between zones sets more: about what a request
/// may wait at home rather than be sent abroad. Without a zone of the node's own it does nothing.
pub const ZONE_PENALTY: Duration = Duration::from_millis(2);

/// How much higher the pod stands in the eyes of a node of this configuration, ms. Where either's zone is not known, nothing
/// says that it is far.
pub(super) fn away_ms(config: &CoreConfig, spec: &PodSpec) -> f32 {
    match (&config.zone, &spec.zone) {
        (Some(own), Some(zone)) if own != zone => config.zone_penalty.as_secs_f32() * 1e3,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Core;
    use crate::observe::Cost;
    use crate::pick::{Outcome, PolicyKind, Request, Ticket, Wake};
    use crate::time::Time;

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    const NOW: Time = Time::from_nanos(1_000_000_000);

    /// A node in zone `a` that knows a pod for each of `zones`, called by its position.
    fn core(policy: PolicyKind, penalty_ms: u64, zones: &[Option<&str>]) -> Core {
        let config = CoreConfig {
            policy,
            zone: Some("a".into()),
            zone_penalty: Duration::from_millis(penalty_ms),
            ..CoreConfig::new("n", ([127, 0, 0, 1], 1).into())
        };
        let mut core = Core::new(config, NOW, Box::new(NoWake));
        let pod = |(k, zone): (usize, &Option<&str>)| {
            let mut spec = PodSpec::new(k.to_string(), format!("http://10.0.0.1:{}", 1 + k));
            spec.zone = zone.map(str::to_owned);
            spec
        };
        core.set_pods(NOW, zones.iter().enumerate().map(pod).collect());
        core
    }

    fn pick(core: &Core, cost_ms: f64) -> Ticket {
        core.picker().pick(NOW, &Request::new("m").cost(Cost::from_ms(cost_ms).unwrap())).unwrap()
    }

    /// How many of a hundred picks, each ended at once, fall on each pod.
    fn picks(core: &Core) -> Vec<usize> {
        let mut picks = vec![0; core.picker().pods().len()];
        for _ in 0..100 {
            let ticket = pick(core, 10.0);
            picks[ticket.pod().name().parse::<usize>().unwrap()] += 1;
            ticket.finish(NOW, Outcome::Served);
        }
        picks
    }

    const COMPARE_HEIGHTS: [PolicyKind; 2] = [PolicyKind::Plimsoll, PolicyKind::LeastCost];

    /// As long as all are idle nothing speaks for sending a request abroad.
    #[test]
    fn equally_loaded_pods_of_the_own_zone_are_picked() {
        for policy in COMPARE_HEIGHTS {
            let picks = picks(&core(policy, 5, &[Some("b"), Some("a"), Some("c"), Some("a")]));
            assert!(picks[0] == 0 && picks[2] == 0 && picks[1] > 20 && picks[3] > 20, "{policy}: {picks:?}");
        }
    }

    /// The penalty is soft: a request that would wait longer at home than the penalty says goes abroad, and one that would
    /// wait less does not.
    #[test]
    fn a_busier_zone_gives_to_others_what_exceeds_the_penalty() {
        for policy in COMPARE_HEIGHTS {
            for (penalty_ms, abroad) in [(50, 0), (30, 100)] {
                let core = core(policy, penalty_ms, &[Some("a"), Some("b")]);
                let _busy = pick(&core, 40.0);
                assert_eq!(picks(&core), [100 - abroad, abroad], "{policy}, {penalty_ms} ms");
            }
        }
    }

    /// Zones that nobody told are no other zones; and where the own zone has no pod, all are alike.
    #[test]
    fn only_what_is_known_to_be_elsewhere_is_away() {
        for policy in COMPARE_HEIGHTS {
            for zones in [[None, Some("a")], [Some("b"), Some("c")]] {
                let picks = picks(&core(policy, 1000, &zones));
                assert!(picks.iter().all(|n| *n > 20), "{policy}, {zones:?}: {picks:?}");
            }
            let off = picks(&core(policy, 0, &[Some("a"), Some("b")]));
            assert!(off.iter().all(|n| *n > 20), "{policy}: {off:?}");
        }
    }

    /// It is a matter of whom to pick. What a request is believed to wait for, and what is told of a pod, stay what they are:
    /// deadlines are judged by it.
    #[test]
    fn a_penalty_is_no_waiting_time() {
        let core = core(PolicyKind::Plimsoll, 5000, &[Some("b")]);
        let ticket = pick(&core, 10.0);
        assert_eq!(ticket.predicted_end().since(NOW), Duration::from_millis(10));
        assert!((core.picker().pods()[0].longest_wait_ms(NOW) - 10.0).abs() < 1.0);
    }
}

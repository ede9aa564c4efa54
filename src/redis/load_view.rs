//! The load view as a sorted set. What callers read is the load of the whole fleet: their own charges to the last digit, and
//! what everybody else has in flight as far as this node knows. What they charge and give back is in this node's row.
//!
//! Pods that picks avoid are not in it, so that a caller which takes the least does not take the dead one; unless all are out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plimsoll_redis::{LiveError, LiveSet};

use super::charges::Charges;
use super::{LoadSet, Zadd};
use crate::observe::Pod;
use crate::pick::Picker;

/// Members that are no pods of this node: beyond, another one is refused.
const MOST_STRANGERS: usize = 1024;
/// A name longer than this is no pod's.
const LONGEST_NAME: usize = 512;

/// The load view as a sorted set.
pub(crate) struct LoadView {
    picker: Picker,
    options: LoadSet,
    charges: Charges,
    /// Members that callers added and this node knows no pod of.
    strangers: BTreeMap<Box<str>, f64>,
    /// Pods that callers took out.
    hidden: Vec<Box<str>>,
    /// What each connection charged and did not give back, by member.
    clients: HashMap<u64, BTreeMap<Box<str>, f64>>,
}

impl LoadView {
    pub(crate) fn new(picker: Picker, options: LoadSet) -> LoadView {
        let charges = Charges::new(picker.clone(), options.unit, &options.model);
        LoadView { picker, options, charges, strangers: BTreeMap::new(), hidden: Vec::new(), clients: HashMap::new() }
    }

    fn pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.picker.pods().iter().find(|pod| pod.name() == name).cloned()
    }

    fn is_hidden(&self, name: &str) -> bool {
        self.hidden.iter().any(|hidden| **hidden == *name)
    }

    /// Sets what this node's callers have at `name`; its score then.
    fn change(&mut self, client: u64, name: &str, to: impl Fn(f64, f64) -> f64) -> Result<f64, LiveError> {
        self.hidden.retain(|hidden| **hidden != *name);
        let Some(pod) = self.pod(name) else { return self.change_stranger(name, to) };
        let (own, beside) = (self.charges.score(name), self.charges.beside(&pod));
        let own_then = to(own, beside);
        if !own_then.is_finite() {
            return Err(LiveError("a pod's load is a finite number".into()));
        }
        self.charges.set(name, Some(&pod), own_then);
        self.note(client, name, own_then - own);
        Ok(own_then + beside)
    }

    fn change_stranger(&mut self, name: &str, to: impl Fn(f64, f64) -> f64) -> Result<f64, LiveError> {
        // Of a pod that was: what is given back for it counts, and is seen no more.
        if !self.strangers.contains_key(name) && self.charges.score(name) != 0.0 {
            let score = to(self.charges.score(name), 0.0);
            self.charges.set(name, None, score);
            return Ok(score);
        }
        if !self.strangers.contains_key(name) && self.strangers.len() >= MOST_STRANGERS {
            return Err(LiveError(format!(
                "too many members that are no pods of this node: {MOST_STRANGERS} are enough"
            )));
        }
        let score = to(self.strangers.get(name).copied().unwrap_or(0.0), 0.0);
        self.strangers.insert(name.into(), score);
        Ok(score)
    }

    /// Remembers what `client` has charged, to give it back when it goes.
    fn note(&mut self, client: u64, name: &str, by: f64) {
        if !self.options.return_on_close || by == 0.0 {
            return;
        }
        let of_client = self.clients.entry(client).or_default();
        let charged = of_client.get(name).copied().unwrap_or(0.0) + by;
        if charged == 0.0 {
            of_client.remove(name);
            if of_client.is_empty() {
                self.clients.remove(&client);
            }
        } else {
            of_client.insert(name.into(), charged);
        }
    }
}

impl LiveSet for LoadView {
    fn key(&self) -> &[u8] {
        self.options.key.as_bytes()
    }

    fn members(&mut self) -> Vec<(Vec<u8>, f64)> {
        let mut members = Vec::new();
        self.visit(&mut |member, score| members.push((member.to_vec(), score)));
        members
    }

    fn visit(&mut self, see: &mut dyn FnMut(&[u8], f64)) {
        let pods = self.picker.pods();
        let is_in = |pod: &Pod| !pod.is_ejected() && !pod.is_draining();
        // Where all are out, any may answer: better than none to ask.
        let any_in = pods.iter().any(|pod| is_in(pod) && !self.is_hidden(pod.name()));
        for pod in pods.iter().filter(|pod| !self.is_hidden(pod.name()) && (is_in(pod) || !any_in)) {
            see(pod.name().as_bytes(), self.charges.score(pod.name()) + self.charges.beside(pod));
        }
        for (name, score) in self.strangers.iter().filter(|(name, _)| !pods.iter().any(|pod| *pod.name() == ***name)) {
            see(name.as_bytes(), *score);
        }
    }

    fn add(&mut self, client: u64, member: &[u8], by: f64) -> Result<f64, LiveError> {
        self.change(client, named(member)?, |own, _| own + by)
    }

    fn set(&mut self, client: u64, member: &[u8], score: f64) -> Result<(), LiveError> {
        let is_own = self.options.zadd == Zadd::Own;
        self.change(client, named(member)?, |_, beside| if is_own { score } else { score - beside }).map(drop)
    }

    fn remove(&mut self, client: u64, member: &[u8]) -> Result<bool, LiveError> {
        let name = named(member)?;
        let was_stranger = self.strangers.remove(name).is_some();
        let own = self.charges.score(name);
        self.note(client, name, -own);
        self.charges.set(name, None, 0.0);
        let was_shown = self.pod(name).is_some() && !self.is_hidden(name);
        if was_shown {
            self.hidden.push(name.into());
        }
        Ok(was_shown || was_stranger)
    }

    fn closed(&mut self, client: u64) {
        for (name, charged) in self.clients.remove(&client).unwrap_or_default() {
            // What others gave back for it already is not given back again.
            let left = (self.charges.score(&name) - charged.max(0.0)).max(0.0);
            if charged > 0.0 {
                let pod = self.pod(&name);
                self.charges.set(&name, pod.as_ref(), left);
            }
        }
    }
}

fn named(member: &[u8]) -> Result<&str, LiveError> {
    match std::str::from_utf8(member) {
        Ok(name) if !name.is_empty() && name.len() <= LONGEST_NAME => Ok(name),
        _ => Err(LiveError(format!(
            "`{}` cannot name a pod: take 1 to {LONGEST_NAME} bytes of UTF-8",
            String::from_utf8_lossy(&member[..member.len().min(64)]).escape_debug()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Interest;
    use crate::observe::{Because, Cost, Formulas, PodSpec};
    use crate::pick::{PolicyKind, Request, Wake};
    use crate::redis::Unit;
    use crate::time::Time;

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn picker(pods: &[&str]) -> Picker {
        let picker = Picker::new(PolicyKind::Plimsoll.policy(), 1, Formulas::new(), Box::new(NoWake));
        let spec = |name: &&str| PodSpec::new(*name, format!("http://{name}:1"));
        let pods = pods.iter().map(|name| Arc::new(Pod::new(spec(name), 0, picker.out().clone()))).collect();
        picker.set_pods(Arc::new(pods), Interest::All);
        picker
    }

    fn view(pods: &[&str], options: LoadSet) -> (LoadView, Picker) {
        let picker = picker(pods);
        (LoadView::new(picker.clone(), options), picker)
    }

    fn score(view: &mut LoadView, name: &str) -> Option<f64> {
        let members = view.members();
        members.into_iter().find(|(member, _)| member == name.as_bytes()).map(|(_, score)| score)
    }

    fn charged_us(picker: &Picker) -> Vec<u64> {
        picker.pods().iter().map(|pod| pod.gauge.all_us()).collect()
    }

    /// What a caller reads back must be what it wrote, to the last digit; what picks and peers see must be the same in
    /// milliseconds, and nothing once all is given back, in whatever pieces and order.
    #[test]
    fn what_is_charged_is_read_back_and_what_is_given_back_is_gone() {
        let options = LoadSet { unit: Unit::Ms(0.5), ..LoadSet::default() };
        let (mut view, picker) = view(&["a", "b"], options);
        assert_eq!(view.add(1, b"a", 100.25), Ok(100.25));
        assert_eq!(view.add(1, b"a", 40.0), Ok(140.25));
        assert_eq!(charged_us(&picker), [70_125, 0]);
        assert_eq!(view.add(2, b"a", -60.25), Ok(80.0), "of no charge by itself: the oldest gives way");
        assert_eq!(charged_us(&picker), [40_000, 0]);
        assert_eq!(view.add(1, b"a", -80.0), Ok(0.0));
        assert_eq!((charged_us(&picker), picker.pods()[0].own_in_flight()), (vec![0, 0], 0));
        assert_eq!(view.add(1, b"a", -5.0), Ok(-5.0), "as a Redis answers; who floors it does so himself");
        assert_eq!((charged_us(&picker), score(&mut view, "b")), (vec![0, 0], Some(0.0)));
    }

    /// A caller that reads the set must see what everybody has in flight, not only what it charged itself.
    #[test]
    fn requests_that_go_through_the_node_are_seen() {
        let (mut view, picker) = view(&["a"], LoadSet::default());
        let request = Request::new("m").cost(Cost::from_ms(7.5).unwrap());
        let ticket = picker.pick(Time::ZERO, &request).unwrap();
        assert_eq!(view.add(1, b"a", 2.0), Ok(9.5));
        ticket.finish(Time::ZERO, crate::pick::Outcome::Served);
        assert_eq!(score(&mut view, "a"), Some(2.0));
    }

    /// Counts are requests: each is one ticket, of which peers learn as of any other.
    #[test]
    fn a_count_is_so_many_tickets() {
        let (mut view, picker) = view(&["a"], LoadSet { unit: Unit::Count, ..LoadSet::default() });
        assert_eq!(view.add(1, b"a", 3.0), Ok(3.0));
        assert_eq!(picker.pods()[0].own_in_flight(), 3);
        assert_eq!(view.add(1, b"a", -1.0), Ok(2.0));
        assert_eq!(picker.pods()[0].own_in_flight(), 2);
    }

    /// A client that dies must not leave its load behind, nor take back what another one gave back for it already.
    #[test]
    fn a_connection_that_closes_returns_what_it_charged() {
        let (mut view, picker) = view(&["a"], LoadSet::default());
        view.add(1, b"a", 10.0).unwrap();
        view.add(2, b"a", 5.0).unwrap();
        view.closed(1);
        assert_eq!((score(&mut view, "a"), charged_us(&picker)), (Some(5.0), vec![5_000]));
        view.add(3, b"a", -5.0).unwrap();
        view.closed(2);
        assert_eq!((score(&mut view, "a"), charged_us(&picker)), (Some(0.0), vec![0]));
        let (mut pooled, picker) = self::view(&["a"], LoadSet { return_on_close: false, ..LoadSet::default() });
        pooled.add(1, b"a", 10.0).unwrap();
        pooled.closed(1);
        assert_eq!(charged_us(&picker), [10_000]);
        drop(pooled);
        assert_eq!((charged_us(&picker), picker.pods()[0].own_remainders()), (vec![0], 0));
    }

    /// The least loaded of a set is the pod that answers nothing: it must not be in it, unless there is no other.
    #[test]
    fn pods_that_are_out_are_not_shown_unless_all_are() {
        let (mut view, picker) = view(&["a", "b"], LoadSet::default());
        view.add(1, b"a", 3.0).unwrap();
        picker.pods()[0].eject_because(Because::Unreachable);
        assert_eq!(view.members(), [(b"b".to_vec(), 0.0)]);
        assert_eq!(view.add(1, b"a", -3.0), Ok(0.0), "what is given back is taken all the same");
        picker.pods()[1].eject_because(Because::Unreachable);
        assert_eq!(view.members().len(), 2);
    }

    /// Teams register their pods, reconcile by ZADD and take pods out by ZREM; names that are no pods are kept as in any Redis.
    #[test]
    fn members_are_set_added_and_taken_out() {
        let (mut view, picker) = view(&["a"], LoadSet::default());
        view.add(1, b"a", 3.0).unwrap();
        view.set(1, b"a", 8.0).unwrap();
        assert_eq!(charged_us(&picker), [8_000]);
        assert_eq!(view.add(1, b"gpu-9", 2.5), Ok(2.5));
        assert_eq!(score(&mut view, "gpu-9"), Some(2.5));
        assert_eq!((view.remove(1, b"gpu-9"), view.remove(1, b"gpu-9")), (Ok(true), Ok(false)));
        assert_eq!((view.remove(1, b"a"), view.remove(1, b"a")), (Ok(true), Ok(false)));
        assert_eq!((view.members(), charged_us(&picker)), (vec![], vec![0]));
        view.set(1, b"a", 0.0).unwrap();
        assert_eq!(view.members(), [(b"a".to_vec(), 0.0)]);
        assert!(view.add(1, b"a", f64::INFINITY).is_err() && view.add(1, b"\xff", 1.0).is_err());
        assert_eq!(charged_us(&picker), [0]);
    }

    /// A script that reads the fleet's score and writes another one means the fleet's.
    #[test]
    fn zadd_may_mean_the_fleet() {
        let (mut view, picker) = view(&["a"], LoadSet { zadd: Zadd::Fleet, ..LoadSet::default() });
        let request = Request::new("m").cost(Cost::from_ms(7.5).unwrap());
        let _ticket = picker.pick(Time::ZERO, &request).unwrap();
        view.set(1, b"a", 9.5).unwrap();
        assert_eq!((charged_us(&picker), score(&mut view, "a")), (vec![9_500], Some(9.5)));
    }
}

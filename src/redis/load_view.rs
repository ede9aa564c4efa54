//! The load view as a sorted set. What callers read is the load of the whole fleet: their own charges to the last digit, and
//! what everybody else has in flight as far as this node knows. What they charge and give back is in this node's row.
//!
//! Pods that picks avoid are not in it, so that a caller which takes the least does not take the dead one; unless all are out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plimsoll_redis::{LiveError, LiveSet};

use super::charges::Charges;
use super::{LoadSet, Zadd};
use crate::node::Node;
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
    pub(crate) fn new(node: &Node, options: LoadSet) -> LoadView {
        let picker = node.picker().clone();
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
        let pods = self.picker.pods();
        let is_in = |pod: &Pod| !pod.is_ejected() && !pod.is_draining();
        // Where all are out, any may answer: better than none to ask.
        let any_in = pods.iter().any(|pod| is_in(pod) && !self.is_hidden(pod.name()));
        let shown = pods.iter().filter(|pod| !self.is_hidden(pod.name()) && (is_in(pod) || !any_in));
        let of_pods = shown.map(|pod| (pod.name().into(), self.charges.score(pod.name()) + self.charges.beside(pod)));
        let is_stranger = |name: &str| !pods.iter().any(|pod| pod.name() == name);
        let strangers = self.strangers.iter().filter(|(name, _)| is_stranger(name));
        of_pods.chain(strangers.map(|(name, score)| (name.as_bytes().to_vec(), *score))).collect()
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

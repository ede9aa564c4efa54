//! What this node has in flight, as the shared Redis should know it, and what it still has to be told.
//!
//! Redis forgets: it restarts empty, a replica takes over that has not heard the last words, somebody flushes it, or it
//! takes a node that was held up for dead. And a node cannot know whether what it sent arrived when a connection broke. So the
//! book holds the truth, requests in flight and nothing else, and there is one cure for all of these: the node registers
//! under a new *generation* with all that it has in flight, which replaces whatever was known of its older ones. Nothing is
//! kept through an outage but what is in flight anyway; what old generations still have under way changes nothing any more.
//!
//! While it is registered, only changes are told, in batches, off the request's way. They are few: what was picked by the
//! view after a miss, and releases. They are bounded too; over the bound it registers anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::time::Time;

/// Parts of a millisecond that costs are told in. Sums of sixteenths are exact in doubles, so that a score that was charged and
/// released a million times is zero again, and not nearly so.
const PARTS: f64 = 16.0;

/// A request's id, unique in the life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Which registration of this node Redis knows, or should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One request in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// Its id.
    pub id: RequestId,
    /// The pod, as the sorted set calls it.
    pub pod: Arc<str>,
    /// What it costs, ms; see [`told_ms`].
    pub cost_ms: f64,
}

/// What Redis has to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A request is in flight that Redis has not picked for.
    Charge(Charge),
    /// A request ended; or was never begun, where Redis picked for it and nobody waited for the answer.
    Release(RequestId),
}

/// What a node says of itself when it registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Under which generation it is known from now on.
    pub generation: Generation,
    /// The ones that may be known still; whatever they have charged is void.
    pub replaces: Vec<Generation>,
    /// What is in flight, or the first of it; the rest is told as changes.
    pub charges: Vec<Charge>,
}

/// The cost as Redis is told it: in sixteenths of a millisecond, rounded up.
pub fn told_ms(cost_ms: f64) -> f64 {
    (cost_ms.max(0.0) * PARTS).ceil() / PARTS
}

/// See the module's description.
#[derive(Debug)]
pub struct Book {
    generation: Generation,
    is_registered: bool,
    /// Generations that Redis may know and that were not replaced for sure.
    replaces: Vec<Generation>,
    next: u64,
    in_flight: BTreeMap<RequestId, Held>,
    /// Requests that were cancelled and that their pods run all the same, until then.
    remain: BTreeSet<(Time, RequestId)>,
    changes: VecDeque<RequestId>,
    /// Changes, and remains, at most.
    most: usize,
    overflows: u64,
}

#[derive(Debug)]
struct Held {
    pod: Arc<str>,
    cost_ms: f64,
    is_told: bool,
}

impl Book {
    /// An empty one that holds `most` changes at most.
    pub fn new(most: usize) -> Book {
        Book {
            generation: Generation(0),
            is_registered: false,
            replaces: Vec::new(),
            next: 0,
            in_flight: BTreeMap::new(),
            remain: BTreeSet::new(),
            changes: VecDeque::new(),
            most: most.max(1),
            overflows: 0,
        }
    }

    /// Which generation asks, where Redis knows it as far as anybody can tell.
    pub fn generation(&self) -> Option<Generation> {
        self.is_registered.then_some(self.generation)
    }

    /// An id for a request.
    pub fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// Redis picked `charge` for `asked`, and so it was done.
    pub fn picked(&mut self, asked: Generation, charge: Charge) {
        let is_told = asked == self.generation && self.is_registered;
        self.hold(charge, is_told);
    }

    /// Somebody else picked, and Redis does not know.
    pub fn charged(&mut self, charge: Charge) {
        self.hold(charge, false);
    }

    /// Redis was asked about `id` by `asked` and may have charged it, but nobody acts by that.
    pub fn unheeded(&mut self, asked: Generation, id: RequestId) {
        if self.is_registered && asked == self.generation {
            self.tell(id);
        }
    }

    /// The request ended, and its pod is done with it.
    pub fn ended(&mut self, id: RequestId) {
        // A charge that was not told is passed over when its turn comes.
        if self.in_flight.remove(&id).is_some_and(|held| held.is_told) && self.is_registered {
            self.tell(id);
        }
    }

    /// The request ended for its caller, and its pod works on it until then as far as anybody knows.
    pub fn remains(&mut self, id: RequestId, until: Time) {
        if self.remain.len() < self.most {
            self.remain.insert((until, id));
        } else {
            self.ended(id);
        }
    }

    /// Ends what remained until `now`.
    pub fn look(&mut self, now: Time) {
        while let Some(&(until, id)) = self.remain.first().filter(|(until, _)| *until <= now) {
            self.remain.remove(&(until, id));
            self.ended(id);
        }
    }

    /// When [`Book::look`] has something to do next.
    pub fn next_look(&self) -> Option<Time> {
        self.remain.first().map(|(until, _)| *until)
    }

    /// What Redis has to be told next, `at_most` changes. They count as told; who cannot tell them says so by [`Book::lost`].
    pub fn changes(&mut self, at_most: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < at_most
            && let Some(id) = self.changes.pop_front()
        {
            match self.in_flight.get_mut(&id) {
                Some(held) if !held.is_told => {
                    held.is_told = true;
                    changes.push(Change::Charge(held.charge(id)));
                }
                Some(_) => {}
                None => changes.push(Change::Release(id)),
            }
        }
        changes
    }

    /// How many changes wait to be told.
    pub fn waiting(&self) -> usize {
        self.changes.len()
    }

    /// How many requests are in flight, those that remain included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How often more changes waited than may.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// What Redis knows of this node is in doubt: it must register before it asks again.
    pub fn lost(&mut self) {
        self.is_registered = false;
        self.changes.clear();
    }

    /// Takes a new generation, for which the node registers with `at_most` charges. Nothing is told before
    /// [`Book::registered`].
    pub fn register(&mut self, at_most: usize) -> Registration {
        self.lost();
        if self.generation > Generation(0) {
            self.replaces.push(self.generation);
        }
        self.generation.0 += 1;
        self.in_flight.values_mut().for_each(|held| held.is_told = false);
        let charges = self.in_flight.iter_mut().take(at_most).map(|(id, held)| {
            held.is_told = true;
            held.charge(*id)
        });
        let charges = charges.collect();
        Registration { generation: self.generation, replaces: self.replaces.clone(), charges }
    }

    /// Redis knows the generation that was taken last. What came and went since then is told now.
    pub fn registered(&mut self, registration: &Registration) {
        if registration.generation != self.generation {
            return;
        }
        self.is_registered = true;
        self.replaces.clear();
        let ended = registration.charges.iter().map(|charge| charge.id).filter(|id| !self.in_flight.contains_key(id));
        let begun = self.in_flight.iter().filter(|(_, held)| !held.is_told).map(|(id, _)| *id);
        let changes: Vec<RequestId> = ended.chain(begun).collect();
        // A thousand at a time is no overflow: what is in flight has its own bounds.
        self.changes.extend(changes);
    }

    fn hold(&mut self, Charge { id, pod, cost_ms }: Charge, is_told: bool) {
        self.in_flight.insert(id, Held { pod, cost_ms, is_told });
        if !is_told && self.is_registered {
            self.tell(id);
        }
    }

    fn tell(&mut self, id: RequestId) {
        if self.changes.len() >= self.most {
            self.overflows += 1;
            self.lost();
            return;
        }
        self.changes.push_back(id);
    }
}

impl Held {
    fn charge(&self, id: RequestId) -> Charge {
        Charge { id, pod: self.pod.clone(), cost_ms: self.cost_ms }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn charge(id: RequestId, pod: &str) -> Charge {
        Charge { id, pod: pod.into(), cost_ms: 1.5 }
    }

    /// Redis as far as the book can see it: what is charged under which generation.
    #[derive(Debug, Default)]
    struct Store {
        known: Option<Generation>,
        charges: BTreeMap<RequestId, Arc<str>>,
    }

    impl Store {
        fn register(&mut self, registration: &Registration) {
            if self.known.is_none_or(|known| registration.replaces.contains(&known)) {
                self.charges.clear();
            }
            self.known = Some(registration.generation);
            self.charges.extend(registration.charges.iter().map(|charge| (charge.id, charge.pod.clone())));
        }

        fn tell(&mut self, generation: Generation, changes: Vec<Change>) {
            if self.known != Some(generation) {
                return;
            }
            for change in changes {
                match change {
                    Change::Charge(charge) => drop(self.charges.insert(charge.id, charge.pod)),
                    Change::Release(id) => drop(self.charges.remove(&id)),
                }
            }
        }
    }

    fn registered(most: usize) -> Book {
        let mut book = Book::new(most);
        let registration = book.register(100);
        book.registered(&registration);
        book
    }

    /// The usual life of a request: Redis charged it, its end is told once.
    #[test]
    fn what_redis_picked_is_released_once() {
        let mut book = registered(10);
        let (id, asked) = (book.next_id(), book.generation().unwrap());
        book.picked(asked, charge(id, "a"));
        assert_eq!((book.waiting(), book.in_flight()), (0, 1));
        book.ended(id);
        book.ended(id);
        assert_eq!(book.changes(10), [Change::Release(id)]);
        assert_eq!((book.waiting(), book.in_flight()), (0, 0));
    }

    /// Nobody waited for the answer, but it may have been charged: it must not stay so. What was picked instead is told.
    #[test]
    fn a_pick_that_was_answered_too_late_is_released_and_the_real_one_charged() {
        let mut book = registered(10);
        let (asked, id, instead) = (book.generation().unwrap(), book.next_id(), book.next_id());
        book.unheeded(asked, id);
        book.charged(charge(instead, "b"));
        assert_eq!(book.changes(10), [Change::Release(id), Change::Charge(charge(instead, "b"))]);
        book.ended(instead);
        assert_eq!(book.changes(10), [Change::Release(instead)]);
    }

    /// What ended before anybody told of it is nobody's business.
    #[test]
    fn a_short_request_that_was_not_told_is_released_all_the_same_without_being_charged() {
        let mut book = registered(10);
        let id = book.next_id();
        book.charged(charge(id, "b"));
        book.ended(id);
        // A release of what is not there changes nothing; a charge would stay.
        assert_eq!(book.changes(10), [Change::Release(id)]);
    }

    /// A restart that lost everything: all that is in flight is known again, and what ended meanwhile is not.
    #[test]
    fn a_new_generation_tells_all_that_is_in_flight_and_replaces_the_old_ones() {
        let mut book = registered(10);
        let asked = book.generation().unwrap();
        let ids: Vec<RequestId> = (0..5).map(|_| book.next_id()).collect();
        ids.iter().for_each(|id| book.picked(asked, charge(*id, "a")));
        book.lost();
        book.ended(ids[0]);
        let lost = book.register(2);
        let again = book.register(2);
        assert_eq!((lost.generation, again.generation), (Generation(2), Generation(3)));
        assert_eq!(again.replaces, [Generation(1), Generation(2)]);
        assert_eq!(again.charges, [charge(ids[1], "a"), charge(ids[2], "a")]);
        // While the registration is under way one of them ends, and one is picked by the view.
        book.ended(ids[1]);
        let new = book.next_id();
        book.charged(charge(new, "b"));
        assert_eq!((book.waiting(), book.generation()), (0, None));
        book.registered(&lost);
        assert_eq!(book.generation(), None, "that was another one");
        book.registered(&again);
        let rest = [
            Change::Release(ids[1]),
            Change::Charge(charge(ids[3], "a")),
            Change::Charge(charge(ids[4], "a")),
            Change::Charge(charge(new, "b")),
        ];
        assert_eq!(book.changes(10), rest);
    }

    /// Who asked before the node registered anew has a charge that the registration made void.
    #[test]
    fn an_answer_to_an_older_generation_is_charged_anew() {
        let mut book = registered(10);
        let (old, id) = (book.generation().unwrap(), book.next_id());
        let registration = book.register(10);
        book.registered(&registration);
        book.picked(old, charge(id, "a"));
        assert_eq!(book.changes(10), [Change::Charge(charge(id, "a"))]);
        book.unheeded(old, id);
        assert_eq!(book.waiting(), 0);
    }

    /// Triton runs on what was cancelled: its pod must not look free before the predicted end.
    #[test]
    fn what_remains_is_released_at_its_end() {
        let mut book = registered(2);
        let asked = book.generation().unwrap();
        let ids: Vec<RequestId> = (0..3).map(|_| book.next_id()).collect();
        ids.iter().for_each(|id| book.picked(asked, charge(*id, "a")));
        book.remains(ids[0], at(50));
        book.remains(ids[1], at(20));
        book.remains(ids[2], at(10));
        assert_eq!(book.changes(10), [Change::Release(ids[2])], "there are too many: it ends now");
        assert_eq!(book.next_look(), Some(at(20)));
        book.look(at(20));
        assert_eq!(book.changes(10), [Change::Release(ids[1])]);
        book.look(at(60));
        assert_eq!((book.changes(10), book.next_look()), (vec![Change::Release(ids[0])], None));
    }

    /// A Redis that takes nothing in must not fill the memory: over the bound, what is in flight is told afresh.
    #[test]
    fn too_many_changes_are_a_reason_to_register_anew() {
        let mut book = registered(3);
        let asked = book.generation().unwrap();
        let ids: Vec<RequestId> = (0..5).map(|_| book.next_id()).collect();
        ids.iter().for_each(|id| book.picked(asked, charge(*id, "a")));
        ids.iter().take(4).for_each(|id| book.ended(*id));
        assert_eq!((book.generation(), book.waiting(), book.overflows()), (None, 0, 1));
        assert_eq!(book.register(10).charges, [charge(ids[4], "a")]);
    }

    /// Sums of what is told must be exact, whatever is charged and released in which order.
    #[test]
    fn costs_are_told_in_parts_that_add_up() {
        assert_eq!((told_ms(0.0), told_ms(0.01), told_ms(10.0), told_ms(-3.0)), (0.0, 0.0625, 10.0, 0.0));
        let costs: Vec<f64> = (1..2000).map(|k| told_ms(f64::from(k) * 0.137)).collect();
        let up: f64 = costs.iter().sum();
        assert_eq!(costs.iter().rev().fold(up, |sum, cost| sum - cost), 0.0);
    }

    proptest! {
        /// Whatever is lost, forgotten, late or doubled: when all is told, Redis knows exactly what is in flight.
        #[test]
        fn when_all_is_told_redis_knows_what_is_in_flight(
            steps in prop::collection::vec((0..9_u8, 0..64_usize), 1..200),
        ) {
            let (mut book, mut store) = (Book::new(16), Store::default());
            let (mut live, mut asked): (Vec<RequestId>, Vec<(Generation, RequestId)>) = (Vec::new(), Vec::new());
            for (step, which) in steps {
                match step {
                    // Redis is asked, and charges where it knows who asks.
                    0 | 1 => {
                        if let Some(generation) = book.generation() {
                            let id = book.next_id();
                            store.tell(generation, vec![Change::Charge(charge(id, "a"))]);
                            asked.push((generation, id));
                        }
                    }
                    // An answer arrives.
                    2 if !asked.is_empty() => {
                        let (generation, id) = asked.swap_remove(which % asked.len());
                        book.picked(generation, charge(id, "a"));
                        live.push(id);
                    }
                    // An answer is too late.
                    3 if !asked.is_empty() => {
                        let (generation, id) = asked.swap_remove(which % asked.len());
                        book.unheeded(generation, id);
                        let instead = book.next_id();
                        book.charged(charge(instead, "a"));
                        live.push(instead);
                    }
                    4 if !live.is_empty() => book.ended(live.swap_remove(which % live.len())),
                    5 => {
                        let changes = book.changes(which);
                        if let Some(generation) = book.generation() {
                            store.tell(generation, changes);
                        }
                    }
                    // A batch, or the connection, is lost; and Redis may have forgotten all.
                    6 => {
                        drop(book.changes(which));
                        book.lost();
                        if which % 2 == 0 {
                            store = Store::default();
                        }
                    }
                    // It registers; the answer may be lost.
                    7 | 8 => {
                        let registration = book.register(which % 4);
                        store.register(&registration);
                        if step == 8 {
                            book.registered(&registration);
                        }
                    }
                    _ => {}
                }
            }
            for (generation, id) in asked {
                book.unheeded(generation, id);
            }
            if book.generation().is_none() {
                let registration = book.register(2);
                store.register(&registration);
                book.registered(&registration);
            }
            loop {
                let changes = book.changes(5);
                if changes.is_empty() {
                    break;
                }
                store.tell(book.generation().unwrap(), changes);
            }
            live.sort();
            prop_assert_eq!(store.charges.keys().copied().collect::<Vec<_>>(), live);
        }
    }
}

//! Strict mode between cores, by hand: what the owner grants, what becomes of a grant that nobody uses, and what a node
//! does that gets no answer.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "fleet/mod.rs"]
mod fleet;

use std::num::NonZeroU16;
use std::time::Duration;

use fleet::{Fleet, ms};
use plimsoll::core::{AskId, Strict, StrictStats, Transmit};
use plimsoll::gossip::wire::{Entry, GiveBack, Grant, Key, Kind, Message, Names, Part, Reserve, Rows};
use plimsoll::id::{Epoch, PodId, Seq, cluster_tag};
use plimsoll::observe::{Cost, SizeClass};
use plimsoll::pick::{Outcome, Request, Ticket};

const WAY: Duration = Duration::from_micros(300);
const TIMEOUT: Duration = Duration::from_millis(2);

impl Fleet {
    /// So many nodes with one shard of so many pods, that know each other.
    fn new(nodes: usize, pods: usize) -> Fleet {
        Fleet::with_budget(nodes, pods, 1_000_000)
    }

    fn with_budget(nodes: usize, pods: usize, budget_bits: u64) -> Fleet {
        Fleet::form(nodes, pods, (Duration::from_micros(100), ms(500)), |config| {
            let mut strict = Strict::default();
            (strict.timeout, strict.shards) = (TIMEOUT, NonZeroU16::new(1));
            (config.strict, config.budget_bits) = (Some(strict), budget_bits);
        })
    }

    /// The node that owns the shard, and another.
    fn owner_and_another(&mut self) -> (usize, usize) {
        let owner = (0..self.cores.len()).find(|n| self.stats(*n).owned == 1).unwrap();
        (owner, usize::from(owner == 0))
    }

    fn stats(&mut self, n: usize) -> StrictStats {
        self.core(n).stats().strict
    }

    fn ask(&mut self, n: usize) -> AskId {
        let now = self.now;
        let ask = self.core(n).reserve(now, &request());
        self.turn(n);
        ask
    }

    fn picked(&mut self, n: usize) -> Vec<(AskId, Ticket)> {
        let core = self.core(n);
        std::iter::from_fn(|| core.poll_reserved()).map(|reserved| (reserved.ask, reserved.picked.unwrap())).collect()
    }

    /// What node `n` believes to be in flight, by pod.
    fn in_flight(&mut self, n: usize) -> Vec<f64> {
        let now = self.now;
        self.core(n).view(now).pods.iter().map(|pod| pod.in_flight).collect()
    }
}

fn request() -> Request<'static> {
    Request::new("m").cost(Cost::from_ms(20.0).unwrap())
}

fn question(nonce: u64) -> Message {
    Message::Reserve(Reserve {
        nonce,
        epoch: Epoch(1),
        seq: Seq(0),
        shard: 0,
        shards: 1,
        class: SizeClass::of(Cost::from_ms(20.0).unwrap()),
        model: "m".into(),
        exclude: vec![],
    })
}

/// The point of strict mode: nodes that pick at the same time, and cannot know of each other, do not pick the same pod.
#[test]
fn those_who_ask_at_the_same_time_get_different_pods() {
    let mut fleet = Fleet::new(5, 5);
    let asks: Vec<AskId> = (0..5).map(|n| fleet.ask(n)).collect();
    fleet.run(ms(1));
    let mut tickets = Vec::new();
    for (n, asked) in asks.into_iter().enumerate() {
        let [(ask, ticket)] = fleet.picked(n).try_into().unwrap();
        assert_eq!(ask, asked);
        tickets.push(ticket);
    }
    let mut pods: Vec<&str> = tickets.iter().map(|ticket| ticket.pod().name()).collect();
    pods.sort_unstable();
    assert_eq!(pods, ["p0", "p1", "p2", "p3", "p4"]);
    let (owner, _) = fleet.owner_and_another();
    let stats = fleet.stats(owner);
    assert_eq!((stats.at_home, stats.given), (1, 4));
    // A little later the rows tell of all of it, and nothing is counted twice.
    fleet.run(ms(2));
    assert_eq!((fleet.stats(owner).held, fleet.in_flight(owner)), (0, vec![1.0; 5]));
    tickets.into_iter().for_each(|ticket| ticket.finish(fleet.now, Outcome::Served));
}

/// An owner that hears of ends later than of begins takes pods for busy that are not: with a budget that lets nothing
/// else through it must hear of both at once.
#[test]
fn an_owner_is_told_of_begins_and_ends_however_small_the_budget() {
    let mut fleet = Fleet::with_budget(3, 2, 10_000);
    let (owner, other) = fleet.owner_and_another();
    for _ in 0..500 {
        fleet.ask(other);
        fleet.run(ms(1));
        let [(_, ticket)] = fleet.picked(other).try_into().unwrap();
        fleet.run(Duration::from_micros(500));
        assert_eq!(fleet.in_flight(owner).iter().sum::<f64>(), 1.0);
        ticket.finish(fleet.now, Outcome::Served);
        fleet.run(Duration::from_micros(500));
        assert_eq!(fleet.in_flight(owner).iter().sum::<f64>(), 0.0);
    }
    assert_eq!(fleet.stats(other).granted, 500);
}

/// A request must never wait longer than it was promised, and the ones after it not at all, until the owner is heard of.
#[test]
fn without_an_answer_the_pick_is_local_when_its_time_is_up() {
    let mut fleet = Fleet::new(3, 4);
    let (owner, other) = fleet.owner_and_another();
    fleet.lost.push((owner, Kind::Grant));
    fleet.ask(other);
    fleet.run(TIMEOUT - Duration::from_micros(100));
    assert_eq!(fleet.picked(other).len(), 0);
    fleet.run(Duration::from_micros(300));
    assert_eq!(fleet.picked(other).len(), 1);
    fleet.ask(other);
    assert_eq!(fleet.picked(other).len(), 1);
    let stats = fleet.stats(other);
    assert_eq!((stats.timed_out, stats.silent, stats.waiting), (1, 1, 0));
    // Ten milliseconds later it is asked again, and answers.
    fleet.lost.clear();
    fleet.run(ms(10));
    fleet.ask(other);
    fleet.run(ms(1));
    assert_eq!((fleet.picked(other).len(), fleet.stats(other).granted), (1, 1));
    // What was granted and never heard of is over by itself.
    fleet.run(ms(200));
    assert_eq!(fleet.stats(owner).held, 0);
}

/// The pick was made when the answer came: a second charge would never be taken back.
#[test]
fn a_late_grant_charges_nothing_and_is_given_back() {
    let mut fleet = Fleet::new(2, 4);
    let (owner, other) = fleet.owner_and_another();
    fleet.lost.push((owner, Kind::Grant));
    fleet.ask(other);
    fleet.run(ms(3));
    let tickets = fleet.picked(other);
    assert_eq!((tickets.len(), fleet.stats(owner).held), (1, 1));
    let nonce = match nonce_of(&mut fleet, other) {
        Message::Reserve(reserve) => reserve.nonce - 1,
        other => panic!("{other:?}"),
    };
    fleet.say(owner, other, &Message::Grant(Grant { nonce, pod: Some(PodId::of("p3:1")) }));
    assert_eq!((fleet.picked(other).len(), fleet.stats(other).late), (0, 1));
    let own: u32 = fleet.core(other).picker().pods().iter().map(|pod| pod.own_in_flight()).sum();
    assert_eq!(own, 1);
    fleet.run(ms(1));
    assert_eq!(fleet.stats(owner).held, 0);
}

/// The question that the next pick of node `n` asks, which gets lost.
fn nonce_of(fleet: &mut Fleet, n: usize) -> Message {
    fleet.run(ms(20));
    let now = fleet.now;
    fleet.core(n).reserve(now, &request());
    let sent: Vec<Transmit> = std::iter::from_fn(|| fleet.core(n).poll_transmit()).collect();
    fleet.run(ms(3));
    fleet.picked(n);
    let decoded = sent.iter().map(|t| Message::decode(&t.data, t.channel, cluster_tag("default")).unwrap());
    decoded.into_iter().find(|message| message.kind() == Kind::Reserve).unwrap()
}

/// An owner that is further away than anybody waits is asked now and then, and not waited for by every request.
#[test]
fn an_owner_that_is_always_late_is_waited_for_now_and_then() {
    let mut fleet = Fleet::new(2, 4);
    let (owner, other) = fleet.owner_and_another();
    fleet.lost.push((owner, Kind::Grant));
    for nonce in 0..1000 {
        fleet.ask(other);
        fleet.run(ms(3));
        fleet.picked(other);
        fleet.say(owner, other, &Message::Grant(Grant { nonce, pod: Some(PodId::of("p3:1")) }));
    }
    let stats = fleet.stats(other);
    assert!((5..12).contains(&stats.timed_out) && stats.silent > 900 && stats.late == 1000, "{stats:?}");
}

/// The other side dies with a grant on its way: what was reserved must not stand before a pod for ever.
#[test]
fn nothing_is_left_of_an_asker_that_died() {
    let mut fleet = Fleet::new(3, 2);
    let (owner, other) = fleet.owner_and_another();
    for _ in 0..50 {
        fleet.ask(other);
    }
    fleet.run(WAY);
    fleet.cores[other] = None;
    fleet.run(WAY);
    assert_eq!(fleet.stats(owner).held, 50);
    fleet.run(ms(200));
    let kept = fleet.core(owner).footprint().reservations;
    assert_eq!((fleet.stats(owner).held, kept), (0, 0));
    assert_eq!(fleet.in_flight(owner), [0.0, 0.0]);
}

/// The owner dies: nobody waits for more than one timeout in a row, and when its death is known its shard has another.
#[test]
fn a_shard_whose_owner_died_gets_another() {
    let mut fleet = Fleet::new(4, 4);
    let (owner, other) = fleet.owner_and_another();
    fleet.cores[owner] = None;
    let mut held = Vec::new();
    for _ in 0..600 {
        fleet.ask(other);
        fleet.run(ms(20));
        held.extend(fleet.picked(other));
    }
    assert_eq!(held.len(), 600);
    let stats = fleet.stats(other);
    assert!(stats.timed_out < 20 && stats.granted + stats.at_home > 200, "{stats:?}");
    let owners: u64 = (0..4).filter(|n| *n != owner).map(|n| fleet.stats(n).owned).sum();
    assert_eq!(owners, 1);
}

/// Nodes may disagree about who owns a shard: whoever is asked for what is not its own says so, and nobody waits.
#[test]
fn who_does_not_own_a_shard_says_so() {
    let mut fleet = Fleet::new(3, 4);
    let (owner, other) = fleet.owner_and_another();
    let third = 3 - owner - other;
    fleet.say(other, third, &question(1));
    assert_eq!((fleet.stats(third).turned_down, fleet.stats(third).held), (1, 0));
    fleet.say(other, owner, &question(2));
    assert_eq!((fleet.stats(owner).given, fleet.stats(owner).held), (1, 1));
    // Of a million shards, or of a model that nobody has, there is nothing to grant; nothing breaks.
    let Message::Reserve(reserve) = question(3) else { unreachable!("it is a question") };
    fleet.say(other, owner, &Message::Reserve(Reserve { shard: 7, shards: 900, ..reserve.clone() }));
    fleet.say(other, owner, &Message::Reserve(Reserve { exclude: vec![PodId(1); 16], ..reserve }));
    fleet.say(other, owner, &Message::GiveBack(GiveBack { nonce: 77 }));
    assert!(fleet.stats(owner).held <= 3);
}

/// A row of somebody whose table's first pod and model a grant is about; later than anything that was said in earnest.
fn row(seq: u64, table: u32, part: Option<Part>, count: Option<u32>) -> Message {
    let key = Key { pod: 0, model: 0, class: SizeClass::of(Cost::from_ms(20.0).unwrap()) };
    let entry = |count| Entry { key, count, age_100us: 0, remainders_ms: vec![] };
    let entries = count.map(entry).into_iter().collect();
    let (epoch, seq) = (Epoch(1), Seq(1_000_000 + seq));
    Message::Rows(Rows { epoch, seq, table, leaving: false, rates: (0, 0), part, entries })
}

fn question_after_all_rows(nonce: u64) -> Message {
    let Message::Reserve(reserve) = question(nonce) else { unreachable!("it is a question") };
    Message::Reserve(Reserve { seq: Seq(1_000_000), ..reserve })
}

/// A whole row overtakes the one that told of a grant, and says nothing of it, because the request is over already. What
/// comes late is not merged; but it must end the reservation, or the pod looks taken for a tenth of a second.
#[test]
fn a_row_that_was_overtaken_ends_its_reservation() {
    let mut fleet = Fleet::new(2, 1);
    let (owner, other) = fleet.owner_and_another();
    fleet.say(other, owner, &question_after_all_rows(9));
    fleet.say(other, owner, &row(2, 0, Some(Part { after: None, upto: None, every: 10 }), None));
    assert_eq!(fleet.stats(owner).held, 1);
    fleet.say(other, owner, &row(1, 0, None, Some(1)));
    assert_eq!((fleet.stats(owner).held, fleet.in_flight(owner)), (0, vec![0.0]));
}

/// The same where the row comes before the name of its pod.
#[test]
fn a_name_that_comes_late_ends_the_reservation_that_waited_for_it() {
    let mut fleet = Fleet::new(2, 1);
    let (owner, other) = fleet.owner_and_another();
    fleet.say(other, owner, &question_after_all_rows(9));
    fleet.say(other, owner, &row(1, 1, None, Some(1)));
    assert_eq!(fleet.stats(owner).held, 1);
    let pods = fleet.core(owner).picker().pods().iter().map(|pod| pod.id()).collect();
    let names = Names { epoch: Epoch(1), table: 1, first_pod: 0, pods, first_model: 0, models: vec!["m".into()] };
    fleet.say(other, owner, &Message::Names(names));
    assert_eq!((fleet.stats(owner).held, fleet.in_flight(owner)), (0, vec![1.0]));
}

/// What is learned while the answer is on its way must not make the pick another size than the one that was asked for: the
/// owner would wait in vain to hear of that.
#[test]
fn a_pick_is_charged_as_it_was_asked_for() {
    let mut fleet = Fleet::new(2, 4);
    let (owner, other) = fleet.owner_and_another();
    let now = fleet.now;
    fleet.core(other).reserve(now, &Request::new("m").bytes(5000));
    let model = fleet.core(other).picker().models().into_iter().find(|model| model.name() == "m").unwrap();
    model.cost.learn(5000, 500.0, now);
    fleet.turn(other);
    fleet.run(ms(5));
    let [(_, ticket)] = fleet.picked(other).try_into().unwrap();
    assert_eq!((ticket.cost().as_ms(), fleet.stats(owner).given, fleet.stats(owner).held), (10.0, 1, 0));
    ticket.finish(fleet.now, Outcome::Served);
}

/// Datagrams come twice. The second answer is the first one, and only one pod is reserved.
#[test]
fn a_question_that_comes_twice_is_granted_once() {
    let mut fleet = Fleet::new(2, 4);
    let (owner, other) = fleet.owner_and_another();
    (0..5).for_each(|_| fleet.say(other, owner, &question(9)));
    assert_eq!(fleet.stats(owner).held, 1);
    fleet.say(other, owner, &Message::GiveBack(GiveBack { nonce: 9 }));
    fleet.say(other, owner, &question(9));
    assert_eq!(fleet.stats(owner).held, 0);
}

/// A member may ask for anything, as often as it likes: what the owner keeps is bounded, and others get their pods.
#[test]
fn an_asker_without_measure_is_turned_down() {
    let mut fleet = Fleet::new(3, 4);
    let (owner, other) = fleet.owner_and_another();
    let third = 3 - owner - other;
    (0..5000).for_each(|nonce| fleet.say(other, owner, &question(nonce)));
    assert_eq!((fleet.stats(owner).held, fleet.stats(owner).turned_down), (4096, 904));
    assert_eq!(fleet.core(owner).stats().refused["too_many_reservations"], 904);
    fleet.say(third, owner, &question(1));
    assert_eq!(fleet.stats(owner).held, 4097);
    fleet.run(ms(300));
    assert_eq!((fleet.stats(owner).held, fleet.core(owner).footprint().reservations), (0, 0));
}

/// A member that is not asked must not decide: a grant of somebody else's is refused, and the right one still counts.
#[test]
fn a_grant_of_somebody_who_was_not_asked_is_refused() {
    let mut fleet = Fleet::new(3, 4);
    let (owner, other) = fleet.owner_and_another();
    let third = 3 - owner - other;
    let Message::Reserve(reserve) = nonce_of(&mut fleet, other) else { unreachable!("it is a question") };
    fleet.run(ms(20));
    fleet.ask(other);
    fleet.say(third, other, &Message::Grant(Grant { nonce: reserve.nonce + 1, pod: Some(PodId::of("p0:1")) }));
    assert_eq!((fleet.picked(other).len(), fleet.core(other).stats().refused["not_asked"]), (0, 1));
    fleet.run(ms(1));
    assert_eq!((fleet.picked(other).len(), fleet.stats(other).granted), (1, 1));
}

/// The owner has not seen what the asker has: a pod that the asker took out must not be granted to it.
#[test]
fn pods_that_the_asker_took_out_are_not_granted() {
    let mut fleet = Fleet::new(2, 3);
    let (_, other) = fleet.owner_and_another();
    let pods = fleet.core(other).picker().pods();
    pods[0].eject();
    for _ in 0..10 {
        fleet.ask(other);
        fleet.run(ms(1));
        let [(_, ticket)] = fleet.picked(other).try_into().unwrap();
        assert_ne!(ticket.pod().name(), "p0");
        ticket.finish(fleet.now, Outcome::Served);
    }
    assert_eq!(fleet.stats(other).granted, 10);
    // Where all are out, the local pick tries one all the same.
    for pod in pods.iter() {
        pod.eject();
    }
    fleet.ask(other);
    assert_eq!((fleet.picked(other).len(), fleet.stats(other).unasked), (1, 1));
}

/// A node alone, or one that leaves, asks nobody, and its requests go on.
#[test]
fn who_is_alone_or_leaves_asks_nobody() {
    let mut alone = Fleet::new(1, 3);
    let first = alone.ask(0);
    assert_eq!(alone.picked(0)[0].0, first);
    assert_eq!(alone.stats(0).at_home, 1);
    let mut fleet = Fleet::new(2, 3);
    let (owner, other) = fleet.owner_and_another();
    fleet.lost.push((owner, Kind::Grant));
    let ask = fleet.ask(other);
    let now = fleet.now;
    fleet.core(other).leave(now);
    assert_eq!(fleet.picked(other)[0].0, ask);
    fleet.ask(other);
    assert_eq!((fleet.picked(other).len(), fleet.stats(other).waiting), (1, 0));
}

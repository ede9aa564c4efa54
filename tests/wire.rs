//! The wire, version 1: the bytes are fixed, every message survives the round trip, and nothing that arrives can hurt.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use plimsoll::core::{Core, CoreConfig, Event};
use plimsoll::gossip::Interest;
use plimsoll::gossip::wire::{
    Channel, Entry, GiveBack, Grant, Hello, Ident, Interested, Key, Kind, Known, MAX_DATAGRAM, MAX_EXCLUDED, MAX_NAME,
    MAX_SHARDS, MAX_STREAM, MemberState, Message, Names, Part, Pass, Passed, Relayed, Reserve, Rows, Sync, SyncMember,
    WireError, epoch_mark, id_mark,
};
use plimsoll::id::{Epoch, NodeId, PodId, Seq, cluster_tag};
use plimsoll::observe::{PodSpec, SizeClass};
use plimsoll::pick::Wake;
use plimsoll::time::Time;
use proptest::prelude::*;

const TAG: u32 = 0xc1ee_a837;

fn ident(id: u64) -> Ident {
    Ident { id: NodeId(id), epoch: Epoch(300), r#gen: 2, addr: "10.0.0.1:7600".parse().unwrap() }
}

fn key(pod: u32, class: u8) -> Key {
    Key { pod, model: 1, class: SizeClass::new(class).unwrap() }
}

/// One message of each kind, and more where a kind has more than one shape.
fn samples() -> Vec<Message> {
    let entry = Entry { key: key(3, 12), count: 2, age_100us: 7, remainders_ms: vec![] };
    let rows = Rows {
        epoch: Epoch(300),
        seq: Seq(1),
        table: 0,
        leaving: false,
        rates: (250, 70_000),
        part: None,
        entries: vec![entry.clone(), Entry { key: key(4, 39), remainders_ms: vec![1, 70_000], ..entry }],
    };
    let six: SocketAddr = "[2001:db8::1]:7600".parse().unwrap();
    vec![
        Message::Swim(Bytes::from_static(&[1, 2, 3])),
        Message::Rows(rows.clone()),
        Message::Rows(Rows {
            leaving: true,
            part: Some(Part { after: Some(key(3, 1)), upto: None, every: 10 }),
            entries: vec![],
            ..rows
        }),
        Message::Hello(Hello { me: ident(1), name: "caller-1".into(), reply: false, known_of_you: None }),
        Message::Hello(Hello {
            me: Ident { addr: six, ..ident(u64::MAX) },
            name: String::new(),
            reply: true,
            known_of_you: Some(Known { epoch: Epoch(1 << 40), r#gen: 3, alive: true }),
        }),
        Message::Sync(Sync {
            from: ident(1),
            want_reply: true,
            members: vec![SyncMember {
                ident: ident(2),
                incarnation: 5,
                state: MemberState::Suspect,
                name: "caller-2".into(),
            }],
        }),
        Message::Names(Names {
            epoch: Epoch(300),
            table: 1,
            first_pod: 2,
            pods: vec![PodId(5), PodId(u64::MAX)],
            first_model: 0,
            models: vec!["resnet".into()],
        }),
        Message::Reserve(reserve()),
        Message::Grant(Grant { nonce: 1 << 40, pod: Some(PodId(u64::MAX)) }),
        Message::Grant(Grant { nonce: 7, pod: None }),
        Message::GiveBack(GiveBack { nonce: 300 }),
        Message::Interest(Interested { epoch: Epoch(300), number: 1, interest: Interest::All }),
        Message::Interest(Interested {
            epoch: Epoch(300),
            number: 251,
            interest: Interest::Arc { first: PodId(u64::MAX), last: PodId(5) },
        }),
        Message::Pass(pass()),
        Message::Relayed(relayed()),
    ]
}

fn pass() -> Pass {
    let entries = vec![Entry { key: key(3, 12), count: 2, age_100us: 7, remainders_ms: vec![] }];
    let (epoch, seq) = (Epoch(300), Seq(9));
    Pass { bits: 5, rows: Rows { epoch, seq, table: 0, leaving: false, rates: (1, 2), part: None, entries } }
}

fn relayed() -> Relayed {
    let one = Passed {
        origin: id_mark(NodeId(0x0102_0304_0506_0708)),
        epoch: epoch_mark(Epoch(0xa_1122)),
        seq: Seq(300),
        table: 0,
        age_100us: 311,
        entries: pass().rows.entries,
    };
    Relayed { news: vec![one.clone(), Passed { seq: Seq(9), entries: vec![], ..one }] }
}

fn reserve() -> Reserve {
    Reserve {
        nonce: 1 << 40,
        epoch: Epoch(300),
        seq: Seq(5),
        shard: 2,
        shards: 300,
        class: SizeClass::new(21).unwrap(),
        model: "resnet".into(),
        exclude: vec![PodId(5)],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two versions of the product meet in every rolling deploy: if one byte moved, they would misread each other. These were
/// made once; from the first release on, a change that breaks them needs a new kind or a new protocol version.
#[test]
fn the_bytes_of_every_kind_are_fixed() {
    let made: Vec<String> = samples().iter().map(|message| hex(&message.encode(TAG))).collect();
    assert_eq!(made, GOLDEN);
}

const GOLDEN: [&str; 15] = [
    "010037a8eec1010203",
    "010137a8eec1fb2c01010000fafc701101000003010c02070004012702070201fc70110100",
    "010137a8eec1fb2c01010001fafc701101000101030101000a",
    "010237a8eec101fb2c0102000a000001fbb01d0863616c6c65722d310000",
    "010237a8eec1fdfffffffffffffffffb2c01020120010db8000000000000000000000001fbb01d000101fd00000000000100000301",
    "010337a8eec101fb2c0102000a000001fbb01d010102fb2c0102000a000001fbb01d05010863616c6c65722d32",
    "010437a8eec1fb2c0101020205fdffffffffffffffff0001067265736e6574",
    "010537a8eec1fd0000000000010000fb2c010502fb2c0115067265736e65740105",
    "010637a8eec1fd000000000001000001fdffffffffffffffff",
    "010637a8eec10700",
    "010737a8eec1fb2c01",
    "010937a8eec1fb2c010100",
    "010937a8eec1fb2c01fbfb0001fdffffffffffffffff05",
    // Five bits, then rows as above.
    "010a37a8eec105fb2c0109000001020003010c020700",
    // Half an id, half an epoch, report, table, age; how many entries, and these.
    "010b37a8eec1040302012211fb2c0100fb37010103010c0207000403020122110900fb370100",
];

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

fn core(name: &str, addr: &str) -> Core {
    let mut core = Core::new(CoreConfig::new(name, addr.parse().unwrap()), Time::ZERO, Box::new(NoWake));
    core.set_pods(Time::ZERO, vec![PodSpec::new("p", "p:1")]);
    core
}

fn sent(core: &mut Core) -> Vec<plimsoll::core::Transmit> {
    std::iter::from_fn(|| core.poll_transmit()).collect()
}

/// SWIM's packets are ours too: foca's types may change their layout, the bytes may not.
#[test]
fn the_bytes_of_an_announcement_are_fixed() {
    let (mut a, mut b) = (core("a", "10.0.0.1:7600"), core("b", "10.0.0.2:7600"));
    a.handle_connected(Time::ZERO, b.id(), "10.0.0.2:7600".parse().unwrap());
    let hello = sent(&mut a).remove(0);
    let remote = "10.0.0.1:7600".parse().unwrap();
    b.handle_message(Time::ZERO, a.id(), remote, hello.channel, &hello.data, Duration::ZERO);
    let swim: Vec<String> = sent(&mut b).iter().filter(|t| t.data[1] == 0).map(|t| hex(&t.data)).collect();
    assert_eq!(swim, SWIM_GOLDEN);
}

const SWIM_GOLDEN: [&str; 1] =
    ["010037a8eec1fd3e23e8160039594a0100000a000002fbb01d00fdca978112ca1bbdca0100000a000001fbb01d06"];

/// Peers may have told a node that started again of its former life, at the address that is its own: that it answers itself there
/// is no news. Whoever has its name elsewhere is.
#[test]
fn a_node_that_meets_itself_is_not_alarmed() {
    let mut a = core("a", "10.0.0.1:7600");
    a.handle_connected(Time::ZERO, a.id(), "10.0.0.1:7600".parse().unwrap());
    assert!(a.poll_event().is_none());
    let other = "10.0.0.2:7600".parse().unwrap();
    a.handle_connected(Time::ZERO, a.id(), other);
    assert!(matches!(a.poll_event(), Some(Event::NameTaken(addr)) if addr == other));
}

/// A protocol that cannot be told apart from garbage cannot be upgraded: each refusal says which.
#[test]
fn what_is_not_ours_is_refused_by_its_header() {
    let ours = samples()[1].encode(TAG);
    let decode = |bytes: &[u8]| Message::decode(bytes, Channel::Datagram, TAG);
    let with = |at: usize, byte: u8| {
        let mut bytes = ours.to_vec();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(decode(&with(0, 2)), Err(WireError::Proto(2)));
    assert_eq!(decode(&with(1, 77)), Err(WireError::Kind(77)));
    assert_eq!(decode(&with(2, 0)), Err(WireError::Cluster(0xc1ee_a800)));
    assert_eq!(decode(&ours[..5]), Err(WireError::Size(5)));
    assert_eq!(decode(&[0; MAX_DATAGRAM + 1]), Err(WireError::Size(MAX_DATAGRAM + 1)));
    assert_eq!(Message::decode(&vec![0; MAX_STREAM + 1], Channel::Stream, TAG), Err(WireError::Size(MAX_STREAM + 1)));
    assert_eq!(decode(&ours[..ours.len() - 1]), Err(WireError::Body("rows")));
    // What belongs on a stream is no datagram.
    let sync = samples()[5].encode(TAG);
    assert_eq!(decode(&sync), Err(WireError::Kind(3)));
    assert_eq!(Message::decode(&[&sync[..], &[0]].concat(), Channel::Stream, TAG), Err(WireError::Body("sync")));
    assert_ne!(cluster_tag("default"), cluster_tag("other"));
}

/// A few bytes that claim a gigabyte must not be believed: refused, and before anything is allocated for them.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about how long it takes")]
fn length_bombs_are_refused_at_once() {
    let start = Instant::now();
    for (kind, channel) in [
        (1, Channel::Datagram),
        (2, Channel::Datagram),
        (3, Channel::Stream),
        (4, Channel::Stream),
        (5, Channel::Datagram),
        (6, Channel::Datagram),
    ] {
        for at in 0..64 {
            for claim in [
                &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
                &[0xfc, 0xff, 0xff, 0xff, 0x7f],
                &[0xfb, 0xff, 0xff],
            ] {
                let mut bytes = vec![1, kind];
                bytes.extend(TAG.to_le_bytes());
                bytes.extend(vec![0; at]);
                bytes.extend(claim);
                let _ = Message::decode(&bytes, channel, TAG);
            }
        }
    }
    // A thousand of them: were memory touched for each claim, this would take minutes.
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut hello = samples()[3].encode(TAG).to_vec();
    let name = hello.iter().position(|byte| *byte == 8).unwrap();
    hello.splice(name..=name, [0xfb, 0xff, 0xff]);
    assert_eq!(Message::decode(&hello, Channel::Datagram, TAG), Err(WireError::Body("hello")));
}

/// What is legal but too much: names over the bound, classes that do not exist, states that do not exist.
#[test]
fn values_out_of_bounds_are_refused() {
    let long = Hello { me: ident(1), name: "x".repeat(MAX_NAME + 1), reply: false, known_of_you: None };
    assert_eq!(
        Message::decode(&Message::Hello(long).encode(TAG), Channel::Datagram, TAG),
        Err(WireError::Body("hello"))
    );
    for wrong in [
        Reserve { model: "x".repeat(MAX_NAME + 1), ..reserve() },
        Reserve { exclude: vec![PodId(1); MAX_EXCLUDED + 1], ..reserve() },
        Reserve { shards: MAX_SHARDS + 1, ..reserve() },
        Reserve { shard: 300, ..reserve() },
        Reserve { shard: 0, shards: 0, ..reserve() },
    ] {
        let bytes = Message::Reserve(wrong).encode(TAG);
        assert_eq!(Message::decode(&bytes, Channel::Datagram, TAG), Err(WireError::Body("reserve")));
    }
    let Pass { rows, .. } = pass();
    let whole = Rows { part: Some(Part { after: None, upto: None, every: 10 }), ..rows.clone() };
    for wrong in [Pass { bits: 65, ..pass() }, Pass { rows: whole, ..pass() }] {
        let bytes = Message::Pass(wrong).encode(TAG);
        assert_eq!(Message::decode(&bytes, Channel::Datagram, TAG), Err(WireError::Body("pass")));
    }
    // More entries than there are bytes left.
    let mut bomb = Message::Relayed(relayed()).encode(TAG).to_vec();
    let last = bomb.len() - 1;
    bomb[last] = 250;
    assert_eq!(Message::decode(&bomb, Channel::Datagram, TAG), Err(WireError::Body("relayed")));
    let Message::Rows(mut rows) = samples().remove(1) else { unreachable!("the second sample is rows") };
    rows.entries[0].count = u32::MAX;
    rows.entries[1].remainders_ms = vec![1; 65];
    let first = Message::Rows(Rows { entries: rows.entries[..1].to_vec(), ..rows.clone() });
    let Ok(Message::Rows(read)) = Message::decode(&first.encode(TAG), Channel::Datagram, TAG) else {
        panic!("it decodes")
    };
    // A claim is read as it is: the core bounds it, and names who made it (sim/tests/bounds.rs).
    assert_eq!(read.entries[0].count, u32::MAX);
    assert_eq!(Message::decode(&Message::Rows(rows).encode(TAG), Channel::Datagram, TAG), Err(WireError::Body("rows")));
}

/// The largest messages that a node builds must pass the limits that it sets for others.
#[test]
fn the_largest_messages_that_are_built_are_read() {
    let member = |n: u64| SyncMember {
        ident: Ident {
            id: NodeId(n << 50),
            epoch: Epoch(u64::MAX),
            r#gen: u32::MAX,
            addr: "[ffff:ffff::ffff]:65535".parse().unwrap(),
        },
        incarnation: u16::MAX,
        state: MemberState::Alive,
        name: String::new(),
    };
    // A sync is split when its members would pass half a stream, at 50 bytes each: 655 at most.
    let sync = Message::Sync(Sync { from: ident(1), want_reply: true, members: (0..655).map(member).collect() });
    assert_eq!(Message::decode(&sync.encode(TAG), Channel::Stream, TAG), Ok(sync));
    let names = Names {
        epoch: Epoch(u64::MAX),
        table: 0,
        first_pod: 0,
        pods: vec![PodId(u64::MAX); MAX_STREAM / 10],
        first_model: 0,
        models: vec![],
    };
    let names = Message::Names(names);
    assert_eq!(Message::decode(&names.encode(TAG), Channel::Stream, TAG), Ok(names));
    let largest = Message::Reserve(Reserve {
        nonce: u64::MAX,
        epoch: Epoch(u64::MAX),
        seq: Seq(u64::MAX),
        model: "x".repeat(MAX_NAME),
        exclude: vec![PodId(u64::MAX); MAX_EXCLUDED],
        ..reserve()
    });
    assert_eq!(Message::decode(&largest.encode(TAG), Channel::Datagram, TAG), Ok(largest));
}

fn any_ident() -> impl Strategy<Value = Ident> {
    let addr = prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from)
    ];
    (any::<u64>(), any::<u64>(), any::<u32>(), addr).prop_map(|(id, epoch, r#gen, addr)| Ident {
        id: NodeId(id),
        epoch: Epoch(epoch),
        r#gen,
        addr,
    })
}

fn any_key() -> impl Strategy<Value = Key> {
    (any::<u32>(), any::<u32>(), 0..40_u8).prop_map(|(pod, model, class)| Key {
        pod,
        model,
        class: SizeClass::new(class).unwrap(),
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (any_key(), 0..=65_535_u32, any::<u32>(), prop::collection::vec(any::<u32>(), 0..4))
        .prop_map(|(key, count, age_100us, remainders_ms)| Entry { key, count, age_100us, remainders_ms })
}

fn any_message() -> impl Strategy<Value = Message> {
    let part = prop::option::of((prop::option::of(any_key()), prop::option::of(any_key()), any::<u8>()));
    let rows = (any::<(u64, u64, u32, bool, (u32, u32))>(), part, prop::collection::vec(any_entry(), 0..20)).prop_map(
        |((epoch, seq, table, leaving, rates), part, entries)| {
            let part = part.map(|(after, upto, every)| Part { after, upto, every });
            Message::Rows(Rows { epoch: Epoch(epoch), seq: Seq(seq), table, leaving, rates, part, entries })
        },
    );
    let known = prop::option::of(any::<(u64, u32, bool)>())
        .prop_map(|known| known.map(|(epoch, r#gen, alive)| Known { epoch: Epoch(epoch), r#gen, alive }));
    let hello = (any_ident(), ".{0,64}", any::<bool>(), known)
        .prop_map(|(me, name, reply, known_of_you)| Message::Hello(Hello { me, name, reply, known_of_you }));
    let state = prop_oneof![Just(MemberState::Alive), Just(MemberState::Suspect), Just(MemberState::Down)];
    let member = (any_ident(), any::<u16>(), state, ".{0,64}")
        .prop_map(|(ident, incarnation, state, name)| SyncMember { ident, incarnation, state, name });
    let sync = (any_ident(), any::<bool>(), prop::collection::vec(member, 0..20))
        .prop_map(|(from, want_reply, members)| Message::Sync(Sync { from, want_reply, members }));
    let names = (
        any::<(u64, u32, u32, u32)>(),
        prop::collection::vec(any::<u64>(), 0..50),
        prop::collection::vec(".{0,64}", 0..9),
    )
        .prop_map(|((epoch, table, first_pod, first_model), pods, models)| {
            let pods = pods.into_iter().map(PodId).collect();
            Message::Names(Names { epoch: Epoch(epoch), table, first_pod, pods, first_model, models })
        });
    let swim = prop::collection::vec(any::<u8>(), 0..1100).prop_map(|bytes| Message::Swim(bytes.into()));
    let excluded = prop::collection::vec(any::<u64>(), 0..MAX_EXCLUDED);
    let reserve = (any::<(u64, u64, u64)>(), 0..MAX_SHARDS, 0..40_u8, ".{0,64}", excluded).prop_map(
        |((nonce, epoch, seq), shard, class, model, exclude)| {
            let (epoch, seq, class) = (Epoch(epoch), Seq(seq), SizeClass::new(class).unwrap());
            let exclude = exclude.into_iter().map(PodId).collect();
            Message::Reserve(Reserve { nonce, epoch, seq, shard, shards: MAX_SHARDS, class, model, exclude })
        },
    );
    let grant =
        any::<(u64, Option<u64>)>().prop_map(|(nonce, pod)| Message::Grant(Grant { nonce, pod: pod.map(PodId) }));
    let back = any::<u64>().prop_map(|nonce| Message::GiveBack(GiveBack { nonce }));
    let changes = prop::collection::vec(any_entry(), 0..20);
    let pass = (0..=64_u8, any::<(u64, u64, u32, bool, (u32, u32))>(), changes).prop_map(
        |(bits, (epoch, seq, table, leaving, rates), entries)| {
            let (epoch, seq) = (Epoch(epoch), Seq(seq));
            Message::Pass(Pass { bits, rows: Rows { epoch, seq, table, leaving, rates, part: None, entries } })
        },
    );
    let passed = (any::<(u32, u16, u64, u32, u32)>(), prop::collection::vec(any_entry(), 0..6)).prop_map(
        |((origin, epoch, seq, table, age_100us), entries)| Passed {
            origin,
            epoch,
            seq: Seq(seq),
            table,
            age_100us,
            entries,
        },
    );
    let relayed = prop::collection::vec(passed, 0..4).prop_map(|news| Message::Relayed(Relayed { news }));
    prop_oneof![rows, hello, sync, names, swim, reserve, grant, back, pass, relayed]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// What one node says is what the other hears.
    #[test]
    fn every_message_survives_the_round_trip(message in any_message()) {
        let bytes = message.encode(TAG);
        prop_assert_eq!(Message::decode(&bytes, message.kind().channel(), TAG), Ok(message));
    }

    /// Bits flip, packets are cut, and enemies know the format: a node must take anything, as bytes and as a message, and
    /// still be a node. The core is the one that acts on it, so it is fed too.
    #[test]
    fn nothing_that_arrives_can_hurt(
        messages in prop::collection::vec((any_message(), 0..2000_usize, 0..2000_usize, any::<u8>()), 1..20),
        noise in prop::collection::vec(any::<u8>(), 0..1200),
        kind in 0..Kind::ALL.len(),
    ) {
        let mut core = core("a", "10.0.0.1:7600");
        let remote: SocketAddr = "10.0.0.2:7600".parse().unwrap();
        core.handle_connected(Time::ZERO, NodeId(2), remote);
        let mut now = Time::ZERO;
        let mut feed = |bytes: &[u8], channel: Channel| {
            now = now + Duration::from_millis(20);
            core.handle_message(now, NodeId(2), remote, channel, bytes, Duration::from_millis(1));
            core.handle_timeout(now);
            while core.poll_transmit().is_some() {}
            while core.poll_event().is_some() {}
        };
        for (message, cut, flip, bits) in messages {
            let channel = message.kind().channel();
            let mut bytes = message.encode(TAG).to_vec();
            feed(&bytes, channel);
            let at = flip % bytes.len();
            bytes[at] ^= bits;
            feed(&bytes, channel);
            bytes.truncate(cut % bytes.len());
            feed(&bytes, channel);
        }
        feed(&noise, Channel::Datagram);
        let head = [&[1, kind as u8][..], &TAG.to_le_bytes()].concat();
        feed(&[head, noise].concat(), Kind::ALL[kind].channel());
        prop_assert_eq!(core.stats().swim_internal_errors, 0);
    }
}

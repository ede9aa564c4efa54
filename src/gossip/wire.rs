//! The wire, version 1: the only file that knows bincode, with `rows` under it for what is read most.
//!
//! ```text
//! message  := u8 proto (= 1) | u8 kind | u32le cluster tag | body
//! datagram    at most 1,150 bytes: SWIM, ROWS, HELLO, RESERVE, GRANT, GIVE_BACK, COSTS, PASS, RELAYED,
//!             PACES
//! uni stream  at most 64 KiB, one message, then FIN: SYNC, NAMES, INTEREST
//! ```
//! Bodies are bincode 2 (little endian, varint) under a limit that also bounds what decoding may allocate; a body must be
//! consumed whole. Unknown protocol versions, kinds and clusters are told apart and refused without decoding. Variants
//! and fields are never reordered; a new shape is a new kind. Golden vectors below hold it to that.

mod costs;
mod paces;
mod relay;
mod rows;
mod strict;

use std::net::SocketAddr;

use bincode::{Decode, Encode};
use bytes::{Buf, BufMut, Bytes};
use foca::{Header, Member, Message as Swim, State};

pub use self::costs::{Costs, ModelCosts};
pub(crate) use self::costs::{MAX_SIZES, MODEL_BYTES, SIZE_BYTES};
pub(crate) use self::paces::MAX_PACES;
pub use self::paces::{Paces, PodPace};
pub(crate) use self::relay::pack_relayed;
pub use self::relay::{Pass, Passed, Relayed, epoch_mark, id_mark};
pub use self::strict::{GiveBack, Grant, MAX_EXCLUDED, MAX_SHARDS, Reserve};
use self::strict::{WireGiveBack, WireGrant, WireReserve};
use super::Interest;
use crate::id::{Epoch, NodeId, PodId, Seq};
use crate::mutant::{self, Mutant};
use crate::observe::SizeClass;

/// What a datagram costs on the wire beside its payload: QUIC's short header, frame and seal (38 bytes, measured), IP and
/// UDP (28), and the acknowledgement that comes back for it, shared among the ten or so that it covers.
pub const OVERHEAD: u64 = 38 + 28 + 7;

/// The protocol version in front of every message.
pub const PROTO: u8 = 1;
/// The most a datagram carries. QUIC guarantees 1,200 bytes of UDP payload; less its own overhead that leaves 1,150 with
/// the longest connection ids.
pub const MAX_DATAGRAM: usize = 1150;
/// The most a stream carries.
pub const MAX_STREAM: usize = 64 * 1024;
/// The most foca may put into one packet: a datagram less our header, rounded down.
pub(crate) const MAX_SWIM: usize = 1100;
/// Node and model names longer than this are refused.
pub const MAX_NAME: usize = 256;
/// Requests of one class that one entry may claim, and all of a peer's on one pod. No more count, so that one member's
/// influence is bounded; who claims more is named.
pub(crate) const MAX_COUNT: u32 = 65_535;
/// Remainders that one entry may tell of.
pub(crate) const MAX_REMAINDERS: usize = 64;

const HEADER: usize = 6;
const KIND_SWIM: u8 = 0;
const KIND_ROWS: u8 = 1;
const KIND_HELLO: u8 = 2;
const KIND_SYNC: u8 = 3;
const KIND_NAMES: u8 = 4;
const KIND_RESERVE: u8 = 5;
const KIND_GRANT: u8 = 6;
const KIND_GIVE_BACK: u8 = 7;
const KIND_COSTS: u8 = 8;
const KIND_INTEREST: u8 = 9;
const KIND_PASS: u8 = 10;
const KIND_RELAYED: u8 = 11;
const KIND_PACES: u8 = 12;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// An unreliable QUIC datagram.
    Datagram,
    /// A QUIC stream of its own, one way.
    Stream,
}

/// A message, decoded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// Membership: foca's own packet.
    Swim(Bytes),
    /// The sender's counts.
    Rows(Rows),
    /// Who I am, and what I know of you.
    Hello(Hello),
    /// All members I know.
    Sync(Sync),
    /// What the indexes in my rows mean.
    Names(Names),
    /// Strict mode: which pod should take this?
    Reserve(Reserve),
    /// Strict mode: that one.
    Grant(Grant),
    /// Strict mode: not needed any more.
    GiveBack(GiveBack),
    /// What requests cost.
    Costs(Costs),
    /// Which pods I use.
    Interest(Interested),
    /// My news, to be passed on to your group.
    Pass(Pass),
    /// Others' news, passed on.
    Relayed(Relayed),
    /// How fast pods are.
    Paces(Paces),
}

/// Kinds of messages, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Membership.
    Swim,
    /// Counts.
    Rows,
    /// Introductions.
    Hello,
    /// Member lists.
    Sync,
    /// Index tables.
    Names,
    /// Questions of strict mode.
    Reserve,
    /// Their answers.
    Grant,
    /// Answers that came too late.
    GiveBack,
    /// Costs of requests.
    Costs,
    /// Which pods are used.
    Interest,
    /// News to be passed on.
    Pass,
    /// News that was passed on.
    Relayed,
    /// How fast pods are.
    Paces,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 13] = {
        use Kind::{Costs, GiveBack, Grant, Hello, Interest, Names, Paces, Pass, Relayed, Reserve, Rows, Swim, Sync};
        [Swim, Rows, Hello, Sync, Names, Reserve, Grant, GiveBack, Costs, Interest, Pass, Relayed, Paces]
    };

    /// How messages of this kind travel.
    pub const fn channel(self) -> Channel {
        match self {
            Kind::Swim | Kind::Rows | Kind::Hello | Kind::Costs | Kind::Paces => Channel::Datagram,
            Kind::Reserve | Kind::Grant | Kind::GiveBack => Channel::Datagram,
            Kind::Pass | Kind::Relayed => Channel::Datagram,
            Kind::Sync | Kind::Names | Kind::Interest => Channel::Stream,
        }
    }

    /// Whether messages of this kind are gossip, which has a budget. The others are a price per pick.
    pub const fn is_gossip(self) -> bool {
        !matches!(self, Kind::Reserve | Kind::Grant | Kind::GiveBack)
    }

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Swim => "swim",
            Kind::Rows => "rows",
            Kind::Hello => "hello",
            Kind::Sync => "sync",
            Kind::Names => "names",
            Kind::Reserve => "reserve",
            Kind::Grant => "grant",
            Kind::GiveBack => "give_back",
            Kind::Costs => "costs",
            Kind::Interest => "interest",
            Kind::Pass => "pass",
            Kind::Relayed => "relayed",
            Kind::Paces => "paces",
        }
    }
}

/// Why bytes are no message. Nothing of them was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Shorter than a header, or longer than its channel allows.
    #[error("{0} bytes are no message of this channel")]
    Size(usize),
    /// Another version of the protocol: upgrade the older side.
    #[error("protocol version {0} is not spoken here (this node speaks 1)")]
    Proto(u8),
    /// A kind this version does not know.
    #[error("message kind {0} is unknown to this version")]
    Kind(u8),
    /// Another cluster's message.
    #[error("cluster tag {0:08x} is another cluster's")]
    Cluster(u32),
    /// The body does not decode, has bytes left over, or says what cannot be.
    #[error("malformed {0} message")]
    Body(&'static str),
    /// It tells of members that are new, and there are too many already.
    #[error("more members than the {0} that are kept")]
    TooManyMembers(usize),
}

impl WireError {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            WireError::Size(_) => "size",
            WireError::Proto(_) => "proto",
            WireError::Kind(_) => "kind",
            WireError::Cluster(_) => "cluster",
            WireError::Body(_) => "body",
            WireError::TooManyMembers(_) => "too_many_members",
        }
    }
}

/// A SWIM identity: a node, which start of it, which renewal within the start, and where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ident {
    /// The node.
    pub id: NodeId,
    /// Which start.
    pub epoch: Epoch,
    /// Which renewal.
    pub r#gen: u32,
    /// Where it is dialed.
    pub addr: SocketAddr,
}

/// Who I am, and what I know of you.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// The sender.
    pub me: Ident,
    /// Its name.
    pub name: String,
    /// Whether this answers a Hello.
    pub reply: bool,
    /// What the sender knows of the receiver: how a restarted node learns which epoch it must beat.
    pub known_of_you: Option<Known>,
}

/// What is known of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The highest epoch seen.
    pub epoch: Epoch,
    /// The highest gen within it.
    pub r#gen: u32,
    /// Whether that identity is believed alive.
    pub alive: bool,
}

/// All members the sender knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Sync {
    /// The sender.
    pub from: Ident,
    /// Whether it wants the same back.
    pub want_reply: bool,
    /// Members with their SWIM incarnation, state and name.
    pub members: Vec<SyncMember>,
}

/// One member in a [`Sync`].
#[derive(Clone, Debug, PartialEq)]
pub struct SyncMember {
    /// Who.
    pub ident: Ident,
    /// SWIM incarnation.
    pub incarnation: u16,
    /// Its state.
    pub state: MemberState,
    /// Its name; empty where the sender has not heard it.
    pub name: String,
}

/// A member as SWIM sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// Answers.
    Alive,
    /// Did not answer a probe; may still refute.
    Suspect,
    /// Gone.
    Down,
}

/// What the indexes in the sender's rows mean. Sent once per connection, then only what is new.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// Which start of the sender.
    pub epoch: Epoch,
    /// Which table: a larger one replaces all indexes.
    pub table: u32,
    /// Index of the first pod below.
    pub first_pod: u32,
    /// Pods, by index from `first_pod`.
    pub pods: Vec<PodId>,
    /// Index of the first model below.
    pub first_model: u32,
    /// Models, by index from `first_model`.
    pub models: Vec<String>,
}

/// Which pods the sender uses. Until it says so, all; told again where it changes, and once per connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interested {
    /// Which start of the sender.
    pub epoch: Epoch,
    /// A larger one is later.
    pub number: u32,
    /// The pods.
    pub interest: Interest,
}

/// Some or all of the sender's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Which start of the sender.
    pub epoch: Epoch,
    /// Number of this report; all parts of one full row share it.
    pub seq: Seq,
    /// Which index table the entries go by.
    pub table: u32,
    /// The sender drains: it will leave soon and its absence is no failure.
    pub leaving: bool,
    /// Work the sender picks for, in thousandths of a pod: small requests, heavy ones.
    pub rates: (u32, u32),
    /// None: only what changed. Some: all entries between the two keys, so that what is absent is zero.
    pub part: Option<Part>,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// The stretch of the sender's keys that a part of its full row covers: after `after`, up to and including `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Exclusive; none from the start.
    pub after: Option<Key>,
    /// Inclusive; none to the end.
    pub upto: Option<Key>,
    /// The next full row comes within so many tenths of a second.
    pub every: u8,
}

/// What an entry is about: pod and model by the sender's indexes, and the size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Pod index.
    pub pod: u32,
    /// Model index.
    pub model: u32,
    /// Size class.
    pub class: SizeClass,
}

/// Requests of one class on one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Of what.
    pub key: Key,
    /// Tickets.
    pub count: u32,
    /// How long the sender held this news, in units of 100 µs.
    pub age_100us: u32,
    /// When remainders end, ms from now.
    pub remainders_ms: Vec<u32>,
}

// ---- The bytes ----------------------------------------------------------------------------------------------------

#[derive(Encode, Decode)]
struct WireIdent(u64, u64, u32, SocketAddr);
#[derive(Encode, Decode)]
struct WireHello {
    me: WireIdent,
    name: String,
    reply: bool,
    known: Option<(u64, u32, bool)>,
}
#[derive(Decode)]
struct WireSync {
    from: WireIdent,
    want_reply: bool,
    members: Vec<(WireIdent, u16, u8, String)>,
}
#[derive(Encode, Decode)]
struct WireNames {
    epoch: u64,
    table: u32,
    first_pod: u32,
    pods: Vec<u64>,
    first_model: u32,
    models: Vec<String>,
}
#[derive(Encode, Decode)]
struct WireInterest {
    epoch: u64,
    number: u32,
    arc: Option<(u64, u64)>,
}
#[derive(Encode, Decode)]
enum WireSwim {
    Ping(u8),
    Ack(u8),
    PingReq(WireIdent, u8),
    IndirectPing(WireIdent, u8),
    IndirectAck(WireIdent, u8),
    ForwardedAck(WireIdent, u8),
    Announce,
    Feed,
    Gossip,
    Broadcast,
    TurnUndead,
}
#[derive(Encode, Decode)]
struct WireSwimHeader {
    src: WireIdent,
    incarnation: u16,
    dst: WireIdent,
    message: WireSwim,
}
#[derive(Encode, Decode)]
struct WireMember {
    ident: WireIdent,
    incarnation: u16,
    state: u8,
}

/// The limit is what keeps a body that claims 2^60 items from aborting the process: it is checked before allocation.
fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_STREAM>()
}

fn put(out: &mut Vec<u8>, value: impl Encode) {
    // Fails only over the limit, and everything that is encoded here is bounded far below it by who built it; a message
    // cut short is refused by the receiver and counted there.
    let encoded = bincode::encode_into_std_write(value, out, config());
    debug_assert!(encoded.is_ok(), "what we build fits the limit: {encoded:?}");
}

/// Takes one value off the front of `bytes`.
fn take<T: Decode<()>>(bytes: &mut &[u8], what: &'static str) -> Result<T, WireError> {
    let (value, used) = bincode::decode_from_slice(bytes, config()).map_err(|_| malformed(what))?;
    *bytes = &bytes[used..];
    Ok(value)
}

/// The error of a body that does not decode.
fn malformed(what: &'static str) -> WireError {
    assert!(!mutant::is(Mutant::UnwrapOnDecode), "malformed {what}");
    WireError::Body(what)
}

/// Takes the one value that `bytes` is.
fn whole<T: Decode<()>>(mut bytes: &[u8], what: &'static str) -> Result<T, WireError> {
    let value = take(&mut bytes, what)?;
    if bytes.is_empty() { Ok(value) } else { Err(WireError::Body(what)) }
}

fn start(kind: u8, tag: u32, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend([PROTO, kind]);
    out.extend(tag.to_le_bytes());
    out
}

/// A member as a [`Sync`] tells of it: who, SWIM incarnation, state, name.
pub(crate) type Told<'a> = (Ident, u16, MemberState, &'a str);

/// The bytes of a [`Sync`] that nobody needs to make first: with 1,000 nodes, one is made for every two of them.
pub(crate) fn encode_sync(from: Ident, want_reply: bool, members: &[Told<'_>], tag: u32) -> Bytes {
    let mut out = start(KIND_SYNC, tag, 64 * (1 + members.len()));
    put_sync(&mut out, from, want_reply, members.iter().copied());
    out.into()
}

fn put_sync<'a>(out: &mut Vec<u8>, from: Ident, want_reply: bool, members: impl ExactSizeIterator<Item = Told<'a>>) {
    // As one `WireSync` would be: a list is its length and then its items.
    put(out, (WireIdent::from(&from), want_reply, members.len() as u64));
    for (ident, incarnation, state, name) in members {
        put(out, (WireIdent::from(&ident), incarnation, state as u8, name));
    }
}

impl Message {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Swim(_) => Kind::Swim,
            Message::Rows(_) => Kind::Rows,
            Message::Hello(_) => Kind::Hello,
            Message::Sync(_) => Kind::Sync,
            Message::Names(_) => Kind::Names,
            Message::Reserve(_) => Kind::Reserve,
            Message::Grant(_) => Kind::Grant,
            Message::GiveBack(_) => Kind::GiveBack,
            Message::Costs(_) => Kind::Costs,
            Message::Interest(_) => Kind::Interest,
            Message::Pass(_) => Kind::Pass,
            Message::Relayed(_) => Kind::Relayed,
            Message::Paces(_) => Kind::Paces,
        }
    }

    /// Its bytes, for the cluster with `tag`.
    pub fn encode(&self, tag: u32) -> Bytes {
        let mut out = match self {
            // What is kept of it afterwards is no more than what it says.
            Message::Swim(packet) => start(KIND_SWIM, tag, HEADER + packet.len()),
            Message::Rows(rows) => start(KIND_ROWS, tag, rows.capacity()),
            Message::Hello(_) => start(KIND_HELLO, tag, 128),
            Message::Sync(_) => start(KIND_SYNC, tag, MAX_DATAGRAM),
            Message::Names(names) => start(KIND_NAMES, tag, 64 + 9 * names.pods.len()),
            Message::Reserve(_) => start(KIND_RESERVE, tag, 64),
            Message::Grant(_) => start(KIND_GRANT, tag, 32),
            Message::GiveBack(_) => start(KIND_GIVE_BACK, tag, 16),
            Message::Costs(_) => start(KIND_COSTS, tag, MAX_DATAGRAM),
            Message::Interest(_) => start(KIND_INTEREST, tag, 64),
            Message::Pass(pass) => start(KIND_PASS, tag, 1 + pass.rows.capacity()),
            Message::Relayed(_) => start(KIND_RELAYED, tag, MAX_DATAGRAM),
            Message::Paces(paces) => start(KIND_PACES, tag, 16 + 13 * paces.pods.len()),
        };
        match self {
            Message::Swim(packet) => out.extend_from_slice(packet),
            Message::Rows(rows) => rows.encode(&mut out),
            Message::Hello(hello) => put(&mut out, WireHello::from(hello)),
            Message::Sync(sync) => {
                let members = sync.members.iter().map(|m| (m.ident, m.incarnation, m.state, m.name.as_str()));
                put_sync(&mut out, sync.from, sync.want_reply, members);
            }
            Message::Names(names) => put(&mut out, WireNames::from(names)),
            Message::Reserve(reserve) => put(&mut out, WireReserve::from(reserve)),
            Message::Grant(grant) => put(&mut out, WireGrant::from(grant)),
            Message::GiveBack(back) => put(&mut out, WireGiveBack::from(back)),
            Message::Costs(costs) => costs.encode(&mut out),
            Message::Interest(interested) => put(&mut out, WireInterest::from(interested)),
            Message::Pass(pass) => pass.encode(&mut out),
            Message::Relayed(relayed) => relayed.news.iter().for_each(|passed| passed.encode(&mut out)),
            Message::Paces(paces) => paces.encode(&mut out),
        }
        out.into()
    }

    /// Reads a message that arrived on `channel`, for the cluster with `tag`. Never panics, never allocates more than a
    /// small multiple of the channel's size.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &[u8], channel: Channel, tag: u32) -> Result<Message, WireError> {
        let most = match channel {
            Channel::Datagram => MAX_DATAGRAM,
            Channel::Stream => MAX_STREAM,
        };
        if bytes.len() < HEADER || bytes.len() > most {
            return Err(WireError::Size(bytes.len()));
        }
        let (header, body) = bytes.split_at(HEADER);
        if header[0] != PROTO {
            return Err(WireError::Proto(header[0]));
        }
        let theirs = u32::from_le_bytes([header[2], header[3], header[4], header[5]]);
        if theirs != tag {
            return Err(WireError::Cluster(theirs));
        }
        match (header[1], channel) {
            (KIND_SWIM, Channel::Datagram) => Ok(Message::Swim(Bytes::copy_from_slice(body))),
            (KIND_ROWS, Channel::Datagram) => Rows::decode(body).map(Message::Rows),
            (KIND_HELLO, Channel::Datagram) => Hello::decode(body).map(Message::Hello),
            (KIND_SYNC, Channel::Stream) => Sync::decode(body).map(Message::Sync),
            (KIND_COSTS, Channel::Datagram) => Costs::decode(body).map(Message::Costs),
            (KIND_PACES, Channel::Datagram) => Paces::decode(body).map(Message::Paces),
            (KIND_NAMES, Channel::Stream) => Names::decode(body).map(Message::Names),
            (KIND_RESERVE, Channel::Datagram) => Reserve::decode(body).map(Message::Reserve),
            (KIND_GRANT, Channel::Datagram) => Grant::decode(body).map(Message::Grant),
            (KIND_GIVE_BACK, Channel::Datagram) => GiveBack::decode(body).map(Message::GiveBack),
            (KIND_INTEREST, Channel::Stream) => Interested::decode(body).map(Message::Interest),
            (KIND_PASS, Channel::Datagram) => Pass::decode(body).map(Message::Pass),
            (KIND_RELAYED, Channel::Datagram) => Relayed::decode(body).map(Message::Relayed),
            (kind, _) => Err(WireError::Kind(kind)),
        }
    }
}

impl Hello {
    fn decode(body: &[u8]) -> Result<Hello, WireError> {
        let hello: WireHello = whole(body, "hello")?;
        let known = |(epoch, r#gen, alive)| Known { epoch: Epoch(epoch), r#gen, alive };
        Ok(Hello {
            me: hello.me.into(),
            name: name(hello.name, "hello")?,
            reply: hello.reply,
            known_of_you: hello.known.map(known),
        })
    }
}

impl Sync {
    fn decode(body: &[u8]) -> Result<Sync, WireError> {
        let sync: WireSync = whole(body, "sync")?;
        let member = |(ident, incarnation, state, text): (WireIdent, u16, u8, String)| {
            Ok(SyncMember { ident: ident.into(), incarnation, state: state.try_into()?, name: name(text, "sync")? })
        };
        let members = sync.members.into_iter().map(member).collect::<Result<_, WireError>>()?;
        Ok(Sync { from: sync.from.into(), want_reply: sync.want_reply, members })
    }
}

impl Names {
    fn decode(body: &[u8]) -> Result<Names, WireError> {
        let names: WireNames = whole(body, "names")?;
        let models = names.models.into_iter().map(|text| name(text, "names")).collect::<Result<_, WireError>>()?;
        Ok(Names {
            epoch: Epoch(names.epoch),
            table: names.table,
            first_pod: names.first_pod,
            pods: names.pods.into_iter().map(PodId).collect(),
            first_model: names.first_model,
            models,
        })
    }
}

impl Interested {
    fn decode(body: &[u8]) -> Result<Interested, WireError> {
        let WireInterest { epoch, number, arc } = whole(body, "interest")?;
        let arc = arc.map(|(first, last)| Interest::Arc { first: PodId(first), last: PodId(last) });
        Ok(Interested { epoch: Epoch(epoch), number, interest: arc.unwrap_or(Interest::All) })
    }
}

fn name(text: String, what: &'static str) -> Result<String, WireError> {
    if text.len() > MAX_NAME { Err(WireError::Body(what)) } else { Ok(text) }
}

impl From<&Ident> for WireIdent {
    fn from(i: &Ident) -> WireIdent {
        WireIdent(i.id.0, i.epoch.0, i.r#gen, i.addr)
    }
}

impl From<WireIdent> for Ident {
    fn from(WireIdent(id, epoch, r#gen, addr): WireIdent) -> Ident {
        Ident { id: NodeId(id), epoch: Epoch(epoch), r#gen, addr }
    }
}

impl From<&Hello> for WireHello {
    fn from(hello: &Hello) -> WireHello {
        WireHello {
            me: (&hello.me).into(),
            name: hello.name.clone(),
            reply: hello.reply,
            known: hello.known_of_you.map(|k| (k.epoch.0, k.r#gen, k.alive)),
        }
    }
}

impl From<&Names> for WireNames {
    fn from(names: &Names) -> WireNames {
        WireNames {
            epoch: names.epoch.0,
            table: names.table,
            first_pod: names.first_pod,
            pods: names.pods.iter().map(|pod| pod.0).collect(),
            first_model: names.first_model,
            models: names.models.clone(),
        }
    }
}

impl From<&Interested> for WireInterest {
    fn from(interested: &Interested) -> WireInterest {
        let arc = match interested.interest {
            Interest::All => None,
            Interest::Arc { first, last } => Some((first.0, last.0)),
        };
        WireInterest { epoch: interested.epoch.0, number: interested.number, arc }
    }
}

impl TryFrom<u8> for MemberState {
    type Error = WireError;

    fn try_from(state: u8) -> Result<MemberState, WireError> {
        match state {
            0 => Ok(MemberState::Alive),
            1 => Ok(MemberState::Suspect),
            2 => Ok(MemberState::Down),
            _ => Err(WireError::Body("member")),
        }
    }
}

impl From<State> for MemberState {
    fn from(state: State) -> MemberState {
        match state {
            State::Alive => MemberState::Alive,
            State::Suspect => MemberState::Suspect,
            State::Down => MemberState::Down,
        }
    }
}

impl From<MemberState> for State {
    fn from(state: MemberState) -> State {
        match state {
            MemberState::Alive => State::Alive,
            MemberState::Suspect => State::Suspect,
            MemberState::Down => State::Down,
        }
    }
}

/// foca's packets in our bytes: the wire is ours, not the layout of foca's own types.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwimCodec;

impl foca::Codec<Ident> for SwimCodec {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Ident>, buf: impl BufMut) -> Result<(), WireError> {
        fill(buf, WireSwimHeader::from(header))
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Ident>, WireError> {
        drain(buf).map(|header: WireSwimHeader| header.into())
    }

    fn encode_member(&mut self, member: &Member<Ident>, buf: impl BufMut) -> Result<(), WireError> {
        let state = MemberState::from(member.state()) as u8;
        fill(buf, WireMember { ident: member.id().into(), incarnation: member.incarnation(), state })
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Ident>, WireError> {
        let member: WireMember = drain(buf)?;
        Ok(Member::new(member.ident.into(), member.incarnation, MemberState::try_from(member.state)?.into()))
    }
}

/// Who sent a SWIM packet, and whether it tells us that we are thought down: what must be known before foca sees it.
pub(crate) fn peek_swim(packet: &[u8]) -> Result<(Ident, bool), WireError> {
    let mut packet = packet;
    let header: WireSwimHeader = take(&mut packet, "swim")?;
    Ok((header.src.into(), matches!(header.message, WireSwim::TurnUndead)))
}

/// Whom a SWIM packet tells of.
pub(crate) fn swim_members(mut packet: &[u8]) -> Result<Vec<Ident>, WireError> {
    take::<WireSwimHeader>(&mut packet, "swim")?;
    // foca's own framing: a count in network byte order, then as many members; a packet may also end with the header.
    let Some((count, mut packet)) = packet.split_first_chunk() else { return Ok(Vec::new()) };
    (0..u16::from_be_bytes(*count)).map(|_| take(&mut packet, "swim").map(|m: WireMember| m.ident.into())).collect()
}

/// Writes `value` if it fits; foca wants a buffer that is too small left clean.
fn fill(mut buf: impl BufMut, value: impl Encode) -> Result<(), WireError> {
    let mut bytes = Vec::with_capacity(64);
    put(&mut bytes, value);
    if buf.remaining_mut() < bytes.len() {
        return Err(WireError::Size(bytes.len()));
    }
    buf.put_slice(&bytes);
    Ok(())
}

fn drain<T: Decode<()>>(mut buf: impl Buf) -> Result<T, WireError> {
    // foca promises contiguous data, so the chunk is all of it.
    let mut chunk = buf.chunk();
    let before = chunk.len();
    let value = take(&mut chunk, "swim")?;
    let used = before - chunk.len();
    buf.advance(used);
    Ok(value)
}

impl From<&Header<Ident>> for WireSwimHeader {
    fn from(header: &Header<Ident>) -> WireSwimHeader {
        let message = match &header.message {
            Swim::Ping(n) => WireSwim::Ping(*n),
            Swim::Ack(n) => WireSwim::Ack(*n),
            Swim::PingReq { target, probe_number } => WireSwim::PingReq(target.into(), *probe_number),
            Swim::IndirectPing { origin, probe_number } => WireSwim::IndirectPing(origin.into(), *probe_number),
            Swim::IndirectAck { target, probe_number } => WireSwim::IndirectAck(target.into(), *probe_number),
            Swim::ForwardedAck { origin, probe_number } => WireSwim::ForwardedAck(origin.into(), *probe_number),
            Swim::Announce => WireSwim::Announce,
            Swim::Feed => WireSwim::Feed,
            Swim::Gossip => WireSwim::Gossip,
            Swim::Broadcast => WireSwim::Broadcast,
            Swim::TurnUndead => WireSwim::TurnUndead,
        };
        let incarnation = header.src_incarnation;
        WireSwimHeader { src: (&header.src).into(), incarnation, dst: (&header.dst).into(), message }
    }
}

impl From<WireSwimHeader> for Header<Ident> {
    fn from(header: WireSwimHeader) -> Header<Ident> {
        let message = match header.message {
            WireSwim::Ping(n) => Swim::Ping(n),
            WireSwim::Ack(n) => Swim::Ack(n),
            WireSwim::PingReq(target, n) => Swim::PingReq { target: target.into(), probe_number: n },
            WireSwim::IndirectPing(origin, n) => Swim::IndirectPing { origin: origin.into(), probe_number: n },
            WireSwim::IndirectAck(target, n) => Swim::IndirectAck { target: target.into(), probe_number: n },
            WireSwim::ForwardedAck(origin, n) => Swim::ForwardedAck { origin: origin.into(), probe_number: n },
            WireSwim::Announce => Swim::Announce,
            WireSwim::Feed => Swim::Feed,
            WireSwim::Gossip => Swim::Gossip,
            WireSwim::Broadcast => Swim::Broadcast,
            WireSwim::TurnUndead => Swim::TurnUndead,
        };
        Header { src: header.src.into(), src_incarnation: header.incarnation, dst: header.dst.into(), message }
    }
}

//! The bytes of news that goes by relays, by hand like those of rows, and in bincode's format like them.

use bytes::Bytes;

use super::rows::{Reader, put_entry, put_u32, put_u64};
use super::{Entry, HEADER, KIND_RELAYED, MAX_DATAGRAM, Rows, WireError, malformed, start};
use crate::id::{Epoch, NodeId, Seq};

/// The sender's news, for the receiver and for whom of its group it concerns.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The group is all nodes whose ids begin with so many of the receiver's bits.
    pub bits: u8,
    /// What changed; never a part of a whole row.
    pub rows: Rows,
}

/// News of others, as they told it to the sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Relayed {
    /// In the order in which it was heard.
    pub news: Vec<Passed>,
}

/// One origin's news. It is as short as may be, because the point of it is to be less than a datagram's overhead.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// Whose: see [`id_mark`].
    pub origin: u32,
    /// Which start of it: see [`epoch_mark`].
    pub epoch: u16,
    /// The number of its report.
    pub seq: Seq,
    /// Which of its index tables the entries go by.
    pub table: u32,
    /// How much older all of it is than the origin says, in units of 100 µs: its way to the relay, and how long that held
    /// it.
    pub age_100us: u32,
    /// What changed, as the origin said.
    pub entries: Vec<Entry>,
}

/// The first half of an id: of 4,000 members two have the same with a chance of 1 in 500, and then news of these two is
/// not taken from relays.
pub fn id_mark(id: NodeId) -> u32 {
    (id.0 >> 32) as u32
}

/// The last two bytes of an epoch, which are drawn at each start.
pub fn epoch_mark(epoch: Epoch) -> u16 {
    epoch.0 as u16
}

impl Pass {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.bits);
        self.rows.encode(out);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Pass, WireError> {
        let (bits, rows) = body.split_first().ok_or_else(|| malformed("pass"))?;
        let rows = Rows::decode(rows)?;
        if *bits > 64 || rows.part.is_some() {
            return Err(malformed("pass"));
        }
        Ok(Pass { bits: *bits, rows })
    }
}

impl Relayed {
    pub(super) fn decode(body: &[u8]) -> Result<Relayed, WireError> {
        let mut reader = Reader(body);
        let mut news = Vec::new();
        while !reader.0.is_empty() {
            news.push(Passed::read(&mut reader).ok_or_else(|| malformed("relayed"))?);
        }
        Ok(Relayed { news })
    }
}

impl Passed {
    /// The most that everything before the entries can take. A message of rows has more before its own, so whatever came
    /// in one can be passed on in one.
    const HEAD: usize = 4 + 2 + 9 + 5 + 5 + 3;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.origin.to_le_bytes());
        out.extend(self.epoch.to_le_bytes());
        put_u64(out, self.seq.0);
        put_u32(out, self.table);
        put_u32(out, self.age_100us);
        put_u32(out, self.entries.len() as u32);
        self.entries.iter().for_each(|entry| put_entry(out, entry));
    }

    fn read(reader: &mut Reader<'_>) -> Option<Passed> {
        let (origin, epoch) = (u32::from_le_bytes(reader.bytes()?), u16::from_le_bytes(reader.bytes()?));
        let (seq, table, age_100us) = (Seq(reader.u64()?), reader.u32()?, reader.u32()?);
        let count = reader.u64()?;
        // Checked before anything is allocated for them.
        if count > (reader.0.len() / Rows::LEAST_ENTRY) as u64 {
            return None;
        }
        let entries = (0..count).map(|_| reader.entry()).collect::<Option<_>>()?;
        Some(Passed { origin, epoch, seq, table, age_100us, entries })
    }
}

/// Messages that carry `news`, each of which is one [`Passed`] in bytes, in order.
pub(crate) fn pack_relayed<'a>(news: impl Iterator<Item = &'a [u8]>, tag: u32) -> Vec<Bytes> {
    const { assert!(Passed::HEAD + HEADER <= Rows::HEAD) };
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for passed in news {
        match messages.last_mut().filter(|message| message.len() + passed.len() <= MAX_DATAGRAM) {
            Some(message) => message.extend_from_slice(passed),
            None => {
                let mut message = start(KIND_RELAYED, tag, HEADER + passed.len());
                message.extend_from_slice(passed);
                messages.push(message);
            }
        }
    }
    messages.into_iter().map(Bytes::from).collect()
}

#[cfg(test)]
mod tests {
    use bincode::{Decode, Encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::rows::tests::{WireEntry, entry, number, wire_entry};
    use super::super::{Channel, Message, put, take};
    use super::*;
    use crate::gossip::own::pack;

    #[derive(Encode, Decode)]
    struct WirePassed {
        origin: [u8; 4],
        epoch: [u8; 2],
        seq: u64,
        table: u32,
        age_100us: u32,
        entries: Vec<WireEntry>,
    }

    prop_compose! {
        fn passed()(
            (origin, epoch) in (any::<u32>(), any::<u16>()),
            seq in prop_oneof![0..300_u64, any::<u64>()],
            (table, age_100us) in (number(), number()),
            entries in vec(entry(), 0..8),
        ) -> Passed {
            Passed { origin, epoch, seq: Seq(seq), table, age_100us, entries }
        }
    }

    fn bytes_of(passed: &Passed) -> Vec<u8> {
        let mut out = Vec::new();
        passed.encode(&mut out);
        out
    }

    /// A relay cannot ask its origins to say less: whatever fits their datagram fits its own.
    #[test]
    fn what_came_in_one_datagram_is_passed_on_in_one() {
        let key = |pod| super::super::Key { pod, model: u32::MAX, class: crate::observe::SizeClass::new(39).unwrap() };
        let entry = |pod| Entry { key: key(u32::MAX - pod), count: 65_535, age_100us: u32::MAX, remainders_ms: vec![] };
        let groups = pack((0..200).map(entry).collect());
        assert!(groups.len() > 2);
        for entries in groups {
            let (seq, table) = (Seq(u64::MAX), u32::MAX);
            let rows = Rows {
                epoch: Epoch(u64::MAX),
                seq,
                table,
                leaving: false,
                rates: (u32::MAX, u32::MAX),
                part: None,
                entries,
            };
            let pass = Message::Pass(Pass { bits: 6, rows: rows.clone() }).encode(7);
            assert!(pass.len() <= MAX_DATAGRAM && Message::decode(&pass, Channel::Datagram, 7).is_ok());
            let passed =
                Passed { origin: u32::MAX, epoch: u16::MAX, seq, table, age_100us: u32::MAX, entries: rows.entries };
            let messages = pack_relayed([&bytes_of(&passed)[..]].into_iter(), 7);
            assert!(messages.len() == 1 && messages[0].len() <= MAX_DATAGRAM);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// As with rows: what is written by hand is what bincode would write, and reads the same, split where it must be.
        #[test]
        fn relayed_news_is_written_as_bincode_does_and_read_as_written(news in vec(passed(), 0..8)) {
            let bytes: Vec<Vec<u8>> = news.iter().map(bytes_of).collect();
            for (passed, bytes) in news.iter().zip(&bytes) {
                let mut by_bincode = Vec::new();
                let Passed { origin, epoch, seq, table, age_100us, entries } = passed.clone();
                let (origin, epoch) = (origin.to_le_bytes(), epoch.to_le_bytes());
                let entries = entries.into_iter().map(wire_entry).collect();
                put(&mut by_bincode, WirePassed { origin, epoch, seq: seq.0, table, age_100us, entries });
                prop_assert_eq!(&by_bincode, bytes);
                let entries: usize = passed.entries.iter().map(Rows::entry_bytes).sum();
                prop_assert!(bytes.len() <= Passed::HEAD + entries);
            }
            // Longer than any origin could have sent.
            prop_assume!(bytes.iter().all(|one| HEADER + one.len() <= MAX_DATAGRAM));
            let mut read = Vec::new();
            for message in pack_relayed(bytes.iter().map(|one| &one[..]), 7) {
                match Message::decode(&message, Channel::Datagram, 7) {
                    Ok(Message::Relayed(relayed)) => read.extend(relayed.news),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert_eq!(read, news);
        }

        /// What is damaged, or was never news, is refused, or read alike by both.
        #[test]
        fn any_bytes_are_read_as_bincode_does(bytes in vec(prop_oneof![0..3_u8, 249..=255_u8, any::<u8>()], 0..60)) {
            let by_hand = Relayed::decode(&bytes).ok();
            let mut left = &bytes[..];
            let mut count = Some(0);
            while !left.is_empty() && let Some(n) = count {
                count = take::<WirePassed>(&mut left, "relayed").ok().filter(|passed| {
                    passed.entries.iter().all(WireEntry::is_one)
                }).map(|_| n + 1);
            }
            prop_assert_eq!(by_hand.map(|relayed| relayed.news.len()), count);
            prop_assert!(Pass::decode(&bytes).is_err() || bytes[0] <= 64);
        }
    }
}

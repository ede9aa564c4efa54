//! The bytes of rows, by hand: nearly all that nodes tell each other is rows, and a reader that knows its fields takes a
//! fifth of what bincode's takes. The format is bincode's all the same, and a test holds the two together.

use super::{Entry, HEADER, Key, MAX_REMAINDERS, Part, Rows, WireError, malformed};
use crate::id::{Epoch, Seq};
use crate::observe::SizeClass;

impl Rows {
    /// The most that everything before the entries can take: header, epoch, seq, table, flag, rates, part.
    pub(crate) const HEAD: usize = HEADER + 9 + 9 + 5 + 1 + 10 + 1 + 2 * (1 + 11) + 1;

    /// The fewest bytes that an entry takes: each of its numbers in one.
    pub(crate) const LEAST_ENTRY: usize = 6;

    /// The bytes of an entry: what a sender counts to fill a datagram exactly.
    pub(crate) fn entry_bytes(entry: &Entry) -> usize {
        let numbers = [entry.key.pod, entry.key.model, entry.count, entry.age_100us, entry.remainders_ms.len() as u32];
        1 + numbers.iter().chain(&entry.remainders_ms).map(|number| length(*number)).sum::<usize>()
    }

    /// Room for the whole message in most cases.
    pub(super) fn capacity(&self) -> usize {
        Rows::HEAD + self.entries.iter().map(Rows::entry_bytes).sum::<usize>()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.epoch.0);
        put_u64(out, self.seq.0);
        put_u32(out, self.table);
        out.push(self.leaving.into());
        put_u32(out, self.rates.0);
        put_u32(out, self.rates.1);
        out.push(self.part.is_some().into());
        if let Some(part) = self.part {
            for edge in [part.after, part.upto] {
                out.push(edge.is_some().into());
                edge.iter().for_each(|key| put_key(out, *key));
            }
            out.push(part.every);
        }
        self.entries.iter().for_each(|entry| put_entry(out, entry));
    }

    pub(super) fn decode(body: &[u8]) -> Result<Rows, WireError> {
        let mut reader = Reader(body);
        reader.rows().ok_or_else(|| malformed("rows"))
    }
}

fn length(number: u32) -> usize {
    match number {
        0..=250 => 1,
        251..=0xffff => 3,
        _ => 5,
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, number: u32) {
    match number {
        0..=250 => out.push(number as u8),
        251..=0xffff => {
            let [a, b, ..] = number.to_le_bytes();
            out.extend_from_slice(&[251, a, b]);
        }
        _ => {
            let [a, b, c, d] = number.to_le_bytes();
            out.extend_from_slice(&[252, a, b, c, d]);
        }
    }
}

pub(super) fn put_u64(out: &mut Vec<u8>, number: u64) {
    match u32::try_from(number) {
        Ok(number) => put_u32(out, number),
        Err(_) => {
            out.push(253);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn put_key(out: &mut Vec<u8>, key: Key) {
    put_u32(out, key.pod);
    put_u32(out, key.model);
    out.push(key.class.index() as u8);
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    put_key(out, entry.key);
    put_u32(out, entry.count);
    put_u32(out, entry.age_100us);
    put_u32(out, entry.remainders_ms.len() as u32);
    entry.remainders_ms.iter().for_each(|ms| put_u32(out, *ms));
}

/// What is left to read. Every read fails at the end, and where a number is too large for its field.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        match self.byte()? {
            small @ 0..=250 => Some(small.into()),
            251 => Some(u16::from_le_bytes(self.bytes()?).into()),
            252 => Some(u32::from_le_bytes(self.bytes()?)),
            _ => None,
        }
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        if self.0.first() == Some(&253) {
            self.byte()?;
            return Some(u64::from_le_bytes(self.bytes()?));
        }
        self.u32().map(u64::from)
    }

    fn key(&mut self) -> Option<Key> {
        Some(Key { pod: self.u32()?, model: self.u32()?, class: SizeClass::new(self.byte()?)? })
    }

    fn edge(&mut self) -> Option<Option<Key>> {
        Some(if self.flag()? { Some(self.key()?) } else { None })
    }

    fn part(&mut self) -> Option<Part> {
        Some(Part { after: self.edge()?, upto: self.edge()?, every: self.byte()? })
    }

    fn rows(&mut self) -> Option<Rows> {
        let (epoch, seq) = (Epoch(self.u64()?), Seq(self.u64()?));
        let (table, leaving) = (self.u32()?, self.flag()?);
        let rates = (self.u32()?, self.u32()?);
        let part = if self.flag()? { Some(self.part()?) } else { None };
        let mut entries = Vec::with_capacity(self.0.len() / Rows::LEAST_ENTRY);
        while !self.0.is_empty() {
            entries.push(self.entry()?);
        }
        Some(Rows { epoch, seq, table, leaving, rates, part, entries })
    }

    pub(super) fn entry(&mut self) -> Option<Entry> {
        let (key, count, age_100us) = (self.key()?, self.u32()?, self.u32()?);
        let mut remainders_ms = Vec::new();
        let remainders = self.u64()?;
        if remainders > 0 {
            if remainders > MAX_REMAINDERS as u64 {
                return None;
            }
            remainders_ms.reserve_exact(remainders as usize);
            for _ in 0..remainders {
                remainders_ms.push(self.u32()?);
            }
        }
        Some(Entry { key, count, age_100us, remainders_ms })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bincode::{Decode, Encode};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{put, take};
    use super::*;

    #[derive(Encode, Decode)]
    pub(crate) struct WireKey(u32, u32, u8);
    #[derive(Encode, Decode)]
    struct WireRows {
        epoch: u64,
        seq: u64,
        table: u32,
        leaving: bool,
        rates: (u32, u32),
        part: Option<(Option<WireKey>, Option<WireKey>, u8)>,
    }
    #[derive(Encode, Decode)]
    pub(crate) struct WireEntry {
        key: WireKey,
        count: u32,
        age_100us: u32,
        remainders_ms: Vec<u32>,
    }

    pub(crate) fn wire_entry(entry: Entry) -> WireEntry {
        let Entry { key, count, age_100us, remainders_ms } = entry;
        WireEntry { key: wire_key(key), count, age_100us, remainders_ms }
    }

    impl WireEntry {
        /// Whether it is more than numbers of the right length.
        pub(crate) fn is_one(&self) -> bool {
            SizeClass::new(self.key.2).is_some() && self.remainders_ms.len() <= MAX_REMAINDERS
        }
    }

    fn wire_key(key: Key) -> WireKey {
        WireKey(key.pod, key.model, key.class.index() as u8)
    }

    fn encoded_by_bincode(rows: &Rows) -> Vec<u8> {
        let mut out = Vec::new();
        put(
            &mut out,
            WireRows {
                epoch: rows.epoch.0,
                seq: rows.seq.0,
                table: rows.table,
                leaving: rows.leaving,
                rates: rows.rates,
                part: rows.part.map(|part| (part.after.map(wire_key), part.upto.map(wire_key), part.every)),
            },
        );
        rows.entries.iter().for_each(|entry| put(&mut out, wire_entry(entry.clone())));
        out
    }

    fn decoded_by_bincode(mut body: &[u8]) -> Option<Rows> {
        let key = |k: WireKey| Some(Key { pod: k.0, model: k.1, class: SizeClass::new(k.2)? });
        let edge = |edge: Option<WireKey>| edge.map_or(Some(None), |k| key(k).map(Some));
        let head: WireRows = take(&mut body, "rows").ok()?;
        let part = match head.part {
            None => None,
            Some((after, upto, every)) => Some(Part { after: edge(after)?, upto: edge(upto)?, every }),
        };
        let mut entries = Vec::new();
        while !body.is_empty() {
            let entry: WireEntry = take(&mut body, "rows").ok()?;
            if entry.remainders_ms.len() > MAX_REMAINDERS {
                return None;
            }
            entries.push(Entry {
                key: key(entry.key)?,
                count: entry.count,
                age_100us: entry.age_100us,
                remainders_ms: entry.remainders_ms,
            });
        }
        let (epoch, seq) = (Epoch(head.epoch), Seq(head.seq));
        Some(Rows { epoch, seq, table: head.table, leaving: head.leaving, rates: head.rates, part, entries })
    }

    /// Numbers of every length, and the edges between the lengths.
    pub(crate) fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0..4_u32, 248..254_u32, 65_530..65_540_u32, any::<u32>()]
    }

    fn key() -> impl Strategy<Value = Key> {
        let class = (0..SizeClass::COUNT as u8).prop_filter_map("a class", SizeClass::new);
        (number(), number(), class).prop_map(|(pod, model, class)| Key { pod, model, class })
    }

    pub(crate) fn entry() -> impl Strategy<Value = Entry> {
        let remainders = prop_oneof![Just(Vec::new()), vec(number(), 0..=MAX_REMAINDERS)];
        (key(), number(), number(), remainders).prop_map(|(key, count, age_100us, remainders_ms)| Entry {
            key,
            count,
            age_100us,
            remainders_ms,
        })
    }

    prop_compose! {
        fn rows()(
            (epoch, seq) in (any::<u64>(), prop_oneof![0..300_u64, any::<u64>()]),
            (table, leaving, rates) in (number(), any::<bool>(), (number(), number())),
            part in prop::option::of((prop::option::of(key()), prop::option::of(key()), any::<u8>())),
            entries in vec(entry(), 0..8),
        ) -> Rows {
            let part = part.map(|(after, upto, every)| Part { after, upto, every });
            Rows { epoch: Epoch(epoch), seq: Seq(seq), table, leaving, rates, part, entries }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        /// Nodes of two versions talk to each other: what is written by hand must be what bincode would write, byte for
        /// byte, and read the same.
        #[test]
        fn rows_are_written_and_read_as_bincode_does(rows in rows()) {
            let mut out = Vec::new();
            rows.encode(&mut out);
            prop_assert_eq!(&out, &encoded_by_bincode(&rows));
            prop_assert!(HEADER + out.len() <= rows.capacity());
            let entries: usize = rows.entries.iter().map(Rows::entry_bytes).sum();
            let head = Rows { entries: vec![], ..rows.clone() };
            prop_assert_eq!(out.len() - encoded_by_bincode(&head).len(), entries);
            prop_assert_eq!(Rows::decode(&out).unwrap(), rows);
        }

        /// And what is damaged must be refused by both or read alike by both: one that read more would be another version.
        #[test]
        fn damaged_rows_are_read_as_bincode_does(
            rows in rows(),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut out = Vec::new();
            rows.encode(&mut out);
            for (at, byte) in damage {
                let at = at.index(out.len());
                out[at] = byte;
            }
            if let Some(cut) = cut {
                out.truncate(cut.index(out.len()));
            }
            prop_assert_eq!(Rows::decode(&out).ok(), decoded_by_bincode(&out));
        }

        /// The same of any bytes at all; small ones, so that some of them are rows.
        #[test]
        fn any_bytes_are_read_as_bincode_does(bytes in vec(prop_oneof![0..3_u8, 249..=255_u8, any::<u8>()], 0..60)) {
            prop_assert_eq!(Rows::decode(&bytes).ok(), decoded_by_bincode(&bytes));
        }
    }
}

//! A set: sorted integers while all are and they are few, else members in the order in which they came.

use std::borrow::Cow;

use hashbrown::DefaultHashBuilder;
use indexmap::IndexSet;

use super::PER_ELEMENT;
use crate::args;

type Members = IndexSet<Box<[u8]>, DefaultHashBuilder>;

/// A set.
#[derive(Clone, Debug)]
pub(crate) enum Set {
    /// In order, as Redis's intset has them and shows them.
    Ints(Vec<i64>),
    /// The members and how many bytes they have together.
    Large(Members, usize),
}

impl Default for Set {
    fn default() -> Set {
        Set::Ints(Vec::new())
    }
}

impl Set {
    pub(crate) fn len(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.len(),
            Set::Large(members, _) => members.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it outgrew what Redis keeps in an intset.
    pub(crate) fn is_large(&self) -> bool {
        matches!(self, Set::Large(..))
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Set::Ints(ints) => ints.len() * size_of::<i64>() + PER_ELEMENT,
            Set::Large(members, payload_bytes) => payload_bytes + members.len() * PER_ELEMENT,
        }
    }

    pub(crate) fn contains(&self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => args::int(member).is_some_and(|int| ints.binary_search(&int).is_ok()),
            Set::Large(members, _) => members.contains(member),
        }
    }

    /// The member at `index`, for scans and random members.
    pub(crate) fn at(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        match self {
            Set::Ints(ints) => ints.get(index).map(|int| Cow::Owned(int.to_string().into_bytes())),
            Set::Large(members, _) => members.get_index(index).map(|member| Cow::Borrowed(&**member)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        (0..self.len()).filter_map(|index| self.at(index))
    }

    /// Adds `member`; whether it is new. More than `max_ints` integers are not kept as such.
    pub(crate) fn insert(&mut self, member: &[u8], max_ints: usize) -> bool {
        if let Set::Ints(ints) = self {
            let int = args::int(member);
            match int.map(|int| (int, ints.binary_search(&int))) {
                Some((_, Ok(_))) => return false,
                Some((int, Err(index))) if ints.len() < max_ints => {
                    ints.insert(index, int);
                    return true;
                }
                Some(_) | None => self.grow(),
            }
        }
        let Set::Large(members, payload_bytes) = self else { return false };
        let is_new = members.insert(member.into());
        *payload_bytes += if is_new { member.len() } else { 0 };
        is_new
    }

    /// Takes `member` out; whether it was there. The last member moves into the gap, which a scan has seen already: it
    /// walks backwards.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            Set::Ints(ints) => match args::int(member).map(|int| ints.binary_search(&int)) {
                Some(Ok(index)) => {
                    ints.remove(index);
                    true
                }
                Some(Err(_)) | None => false,
            },
            Set::Large(members, payload_bytes) => {
                let was_there = members.swap_remove(member);
                *payload_bytes -= if was_there { member.len() } else { 0 };
                if members.capacity() > 64 && members.len() < members.capacity() / 4 {
                    members.shrink_to(members.len() * 2);
                }
                was_there
            }
        }
    }

    fn grow(&mut self) {
        let members: Members = self.iter().map(|member| member.into()).collect();
        let payload_bytes = members.iter().map(|member| member.len()).sum();
        *self = Set::Large(members, payload_bytes);
    }
}

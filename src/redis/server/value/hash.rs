//! A hash: fields and what they hold, in the order in which they came.

use hashbrown::DefaultHashBuilder;
use indexmap::IndexMap;

use super::PER_ELEMENT;

/// A hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hash {
    fields: IndexMap<Box<[u8]>, Box<[u8]>, DefaultHashBuilder>,
    payload_bytes: usize,
    is_large: bool,
}

/// Up to where Redis keeps a hash in a listpack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashLimits {
    pub(crate) entries: usize,
    /// The longest field or value, bytes.
    pub(crate) value: usize,
}

impl Hash {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether it outgrew what Redis keeps in a listpack.
    pub(crate) fn is_large(&self) -> bool {
        self.is_large
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload_bytes + self.len() * 2 * PER_ELEMENT
    }

    pub(crate) fn get(&self, field: &[u8]) -> Option<&[u8]> {
        self.fields.get(field).map(|value| &**value)
    }

    /// The field and value at `index`, for scans and random fields.
    pub(crate) fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        self.fields.get_index(index).map(|(field, value)| (&**field, &**value))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(field, value)| (&**field, &**value))
    }

    /// Sets `field` to `value`; whether it is new.
    pub(crate) fn set(&mut self, field: &[u8], value: &[u8], limits: HashLimits) -> bool {
        let old = self.fields.get_mut(field);
        let is_new = old.is_none();
        if let Some(old) = old {
            self.payload_bytes = self.payload_bytes - old.len() + value.len();
            *old = value.into();
        } else {
            self.payload_bytes += field.len() + value.len();
            self.fields.insert(field.into(), value.into());
        }
        self.is_large |= self.len() > limits.entries || field.len() > limits.value || value.len() > limits.value;
        is_new
    }

    /// Takes `field` out; whether it was there. A small hash keeps its order, as a listpack does; in a large one the last
    /// field moves into the gap, which a scan (it walks backwards) has seen already.
    pub(crate) fn remove(&mut self, field: &[u8]) -> bool {
        let removed =
            if self.is_large { self.fields.swap_remove_entry(field) } else { self.fields.shift_remove_entry(field) };
        let Some((field, value)) = removed else { return false };
        self.payload_bytes -= field.len() + value.len();
        if self.fields.capacity() > 64 && self.fields.len() < self.fields.capacity() / 4 {
            self.fields.shrink_to(self.fields.len() * 2);
        }
        true
    }
}

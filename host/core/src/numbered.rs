//! Records by numbers that were given one after the other: agents, offers. The records are looked up
//! in no order, many thousand times a cycle, so they lie in pages: a page is found among few, which
//! stay in the processor's cache, and a record is its number's place in its page. Numbers may have
//! any gaps; a record that is alone in its page costs the page.

use std::collections::BTreeMap;
use std::ops::RangeFrom;

use proffer_codec::{Codec, Input, InvalidBytes};
use proffer_model::{AgentId, OfferId};

/// Records of a page: enough that pages are few, and not so many that old offers that are kept
/// waste much.
const PAGE: usize = 32;

/// A number.
pub(crate) trait Number: Copy + Ord {
    fn number(self) -> u64;
}

impl Number for AgentId {
    fn number(self) -> u64 {
        u64::from(self.0)
    }
}

impl Number for OfferId {
    fn number(self) -> u64 {
        self.0
    }
}

/// Records by number.
#[derive(Debug)]
pub(crate) struct Numbered<K, V> {
    /// None is empty.
    pages: BTreeMap<u64, Page<K, V>>,
    len: usize,
}

#[derive(Debug)]
struct Page<K, V> {
    slots: Box<[Option<(K, V)>; PAGE]>,
    used: usize,
}

impl<K, V> Default for Page<K, V> {
    fn default() -> Self {
        Self {
            slots: Box::new([const { None }; PAGE]),
            used: 0,
        }
    }
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self {
            pages: BTreeMap::new(),
            len: 0,
        }
    }
}

/// Which page, and where in it.
fn place(key: impl Number) -> (u64, usize) {
    let number = key.number();
    (number / PAGE as u64, (number % PAGE as u64) as usize)
}

impl<K: Number, V> Numbered<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (page, slot) = place(*key);
        let (_, record) = self.pages.get(&page)?.slots[slot].as_ref()?;
        Some(record)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (page, slot) = place(*key);
        let (_, record) = self.pages.get_mut(&page)?.slots[slot].as_mut()?;
        Some(record)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Answers the record that had the number before.
    pub(crate) fn insert(&mut self, key: K, record: V) -> Option<V> {
        let (page, slot) = place(key);
        let page = self.pages.entry(page).or_default();
        let before = page.slots[slot].replace((key, record));
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before.map(|(_, record)| record)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (number, slot) = place(*key);
        let page = self.pages.get_mut(&number)?;
        let (_, record) = page.slots[slot].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(record)
    }

    /// By number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let slots = self.pages.values().flat_map(|page| page.slots.iter());
        slots.flatten().map(|(key, record)| (key, record))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let pages = self.pages.values_mut();
        let slots = pages.flat_map(|page| page.slots.iter_mut());
        slots.flatten().map(|(key, record)| (&*key, record))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, record)| record)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, record)| record)
    }

    pub(crate) fn range(&self, from: RangeFrom<K>) -> impl Iterator<Item = (&K, &V)> {
        let (page, _) = place(from.start);
        let pages = self.pages.range(page..).map(|(_, page)| page);
        let slots = pages.flat_map(|page| page.slots.iter()).flatten();
        let records = slots.map(|(key, record)| (key, record));
        records.skip_while(move |(key, _)| **key < from.start)
    }
}

/// As a map.
impl<K: Number + Codec, V: Codec> Codec for Numbered<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len.put(out);
        for (key, record) in self.iter() {
            key.put(out);
            record.put(out);
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let mut all = Self::default();
        for (key, record) in Vec::<(K, V)>::take(input)? {
            all.insert(key, record);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(moves in prop::collection::vec((0_u64..200, any::<bool>()), 0..200)) {
            let mut numbered = Numbered::default();
            let mut tree = BTreeMap::new();
            for (at, (number, comes)) in moves.into_iter().enumerate() {
                let id = OfferId(number);
                match comes {
                    true => prop_assert_eq!(numbered.insert(id, at), tree.insert(id, at)),
                    false => prop_assert_eq!(numbered.remove(&id), tree.remove(&id)),
                }
                prop_assert_eq!(numbered.get(&id), tree.get(&id));
            }
            prop_assert_eq!(numbered.len(), tree.len());
            prop_assert!(numbered.iter().eq(tree.iter()));
            for from in [0, 31, 32, 77, 500].map(OfferId) {
                prop_assert!(numbered.range(from..).eq(tree.range(from..)));
            }
            for record in numbered.values_mut() {
                *record += 1;
            }
            let bytes = proffer_codec::written(&numbered);
            let read = proffer_codec::read::<Numbered<OfferId, usize>>(&bytes).unwrap();
            prop_assert!(read.values().eq(tree.values().map(|at| at + 1).collect::<Vec<_>>().iter()));
        }
    }
}

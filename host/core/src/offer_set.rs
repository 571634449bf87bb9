//! A set of offers. Numbers that were given one after the other lie in one word.

use std::collections::BTreeMap;

use proffer_codec::{Codec, Input, InvalidBytes};
use proffer_model::OfferId;

/// Offers by number.
#[derive(Debug, Default)]
pub(crate) struct OfferSet {
    /// By number / 64, a bit for each; never none.
    words: BTreeMap<u64, u64>,
}

/// As a list.
impl Codec for OfferSet {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().collect::<Vec<OfferId>>().put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let mut set = Self::default();
        for id in Vec::take(input)? {
            set.insert(id);
        }
        Ok(set)
    }
}

impl OfferSet {
    pub(crate) fn insert(&mut self, id: OfferId) {
        *self.words.entry(id.0 / 64).or_default() |= bit(id);
    }

    pub(crate) fn remove(&mut self, id: OfferId) {
        if let Some(word) = self.words.get_mut(&(id.0 / 64)) {
            *word &= !bit(id);
            if *word == 0 {
                self.words.remove(&(id.0 / 64));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// All of them, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = OfferId> {
        self.words.iter().flat_map(|(number, word)| {
            let set = (0..64).filter(move |place| word & (1 << place) != 0);
            set.map(move |place| OfferId(number * 64 + place))
        })
    }
}

fn bit(id: OfferId) -> u64 {
    1 << (id.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_come_out_in_the_order_of_their_numbers() {
        let mut set = OfferSet::default();
        for id in [200, 63, 64, 1, 65, 64] {
            set.insert(OfferId(id));
        }
        set.remove(OfferId(65));
        set.remove(OfferId(66));
        let all: Vec<u64> = set.iter().map(|id| id.0).collect();
        assert_eq!(all, [1, 63, 64, 200]);
        for id in all {
            set.remove(OfferId(id));
        }
        assert!(set.is_empty());
    }
}

//! Random facts, for tests: a deserializer that makes its input up. It reaches every variant and
//! field of every wire type, also of those that are added later, without a line for each.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::fact::Fact;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor,
    value::Error,
};

use super::{Wire, fact};

/// Words that every checked text of the model takes.
const WORDS: [&str; 6] = ["a", "b", "map-1", "日本", "r.1", "Z"];

/// Below it any two numbers make a range of ports.
const NUMBER_BELOW: u64 = 400_000_000;

/// Deterministic: one seed, one sequence of facts.
pub(crate) struct Random {
    state: u64,
    /// Every enum met: its variants, and those of them that were made.
    pub(crate) seen: BTreeMap<&'static str, (&'static [&'static str], BTreeSet<usize>)>,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn fact(&mut self) -> Fact {
        let fact = fact::Fact::deserialize(self).expect("every wire type can be made up");
        fact.into_model()
            .expect("made-up values hold the model's invariants")
    }

    pub(crate) fn facts(&mut self, count: usize) -> Vec<Fact> {
        (0..count).map(|_| self.fact()).collect()
    }

    /// Splitmix64.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $make:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let make: fn(&mut Random) -> _ = $make;
            visitor.$visit(make(self))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Random {
    type Error = Error;

    numbers! {
        deserialize_bool visit_bool |r| r.below(2) == 1;
        deserialize_u8 visit_u8 |r| r.below(256) as u8;
        deserialize_u16 visit_u16 |r| r.below(65_536) as u16;
        deserialize_u32 visit_u32 |r| r.below(NUMBER_BELOW) as u32;
        deserialize_u64 visit_u64 |r| r.below(NUMBER_BELOW);
        deserialize_i32 visit_i32 |r| r.below(512) as i32 - 256;
        deserialize_i64 visit_i64 |r| r.below(NUMBER_BELOW) as i64;
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(WORDS[self.below(WORDS.len() as u64) as usize])
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.below(2) {
            0 => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.below(3) as usize;
        visitor.visit_seq(Items { random: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { random: self, left })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let left = fields.len();
        visitor.visit_seq(Items { random: self, left })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let index = self.below(variants.len() as u64) as usize;
        let seen = self.seen.entry(name).or_insert((variants, BTreeSet::new()));
        seen.1.insert(index);
        visitor.visit_enum(Choice {
            random: self,
            index,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom(
            "a wire type of a kind that Random does not make yet",
        ))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 f32 f64 char str bytes byte_buf unit unit_struct tuple_struct map identifier
        ignored_any
    }
}

struct Items<'r> {
    random: &'r mut Random,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.random).map(Some)
    }
}

struct Choice<'r> {
    random: &'r mut Random,
    index: usize,
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let value = seed.deserialize((self.index as u32).into_deserializer())?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.random)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.random.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.random.deserialize_tuple(fields.len(), visitor)
    }
}

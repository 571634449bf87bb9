//! Numbers, texts, lists.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::input::put_number;
use crate::{Codec, Input, InvalidBytes};

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Codec for $type {
            fn put(&self, out: &mut Vec<u8>) {
                put_number(u64::from(*self), out);
            }
            fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
                let number = input.number(u64::from(<$type>::MAX))?;
                Self::try_from(number).map_err(|_| input.refuse("a number that is too large"))
            }
        }
    )*};
}

numbers!(u16, u32, u64);

/// As it is, and slices whole: bodies and values are large.
impl Codec for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok(input.bytes(1)?[0])
    }
    fn put_all(items: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(items);
    }
    fn take_all(count: usize, input: &mut Input<'_>) -> Result<Vec<Self>, InvalidBytes> {
        input.bytes(count)
    }
}

impl Codec for usize {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(*self as u64, out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let number = input.number(u64::MAX)?;
        Self::try_from(number).map_err(|_| input.refuse("a number that is too large"))
    }
}

impl Codec for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(((self << 1) ^ (self >> 63)).cast_unsigned(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        input.signed()
    }
}

impl Codec for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        i64::from(*self).put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let number = input.signed()?;
        Self::try_from(number).map_err(|_| input.refuse("a number that is too large"))
    }
}

impl Codec for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok(input.variant(2)? == 1)
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

macro_rules! texts {
    ($($type:ty),*) => {$(
        impl Codec for $type {
            fn put(&self, out: &mut Vec<u8>) {
                put_text(self, out);
            }
            fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
                input.text(|text| text.to_owned().into())
            }
        }
    )*};
}

texts!(String, Arc<str>, Cow<'static, str>);

impl Codec for Arc<[u8]> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.len() as u64, out);
        out.extend_from_slice(self);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let length = input.length()?;
        Ok(input.bytes(length)?.into())
    }
}

impl<T: Codec> Codec for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.len() as u64, out);
        T::put_all(self, out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let length = input.length()?;
        T::take_all(length, input)
    }
}

impl<T: Codec> Codec for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.put(out);
            }
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        match input.variant(2)? {
            0 => Ok(None),
            _ => Ok(Some(T::take(input)?)),
        }
    }
}

impl<T: Codec> Codec for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok(Self::new(T::take(input)?))
    }
}

impl<T: Codec> Codec for Arc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok(Self::new(T::take(input)?))
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

macro_rules! collections {
    ($($type:ident<$($item:ident),*> where $key:ident: $bound:path;)*) => {$(
        impl<$($item: Codec),*> Codec for $type<$($item),*>
        where
            $key: $bound,
        {
            fn put(&self, out: &mut Vec<u8>) {
                put_number(self.len() as u64, out);
                for item in self {
                    PutItem::put_item(&item, out);
                }
            }
            fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
                let length = input.length()?;
                (0..length).map(|_| Codec::take(input)).collect()
            }
        }
    )*};
}

/// Maps give pairs of references, sets and queues references.
trait PutItem {
    fn put_item(&self, out: &mut Vec<u8>);
}

impl<T: Codec> PutItem for &T {
    fn put_item(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<K: Codec, V: Codec> PutItem for (&K, &V) {
    fn put_item(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
}

collections! {
    BTreeMap<K, V> where K: Ord;
    BTreeSet<T> where T: Ord;
    VecDeque<T> where T: Sized;
}

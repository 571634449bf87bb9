//! Values that keep rules of their own: what is taken is checked by them again.

use proffer_model::{Amount, Bundle, Range, Ranges, Resources, RoleName, TaskId};

use crate::input::put_number;
use crate::{Codec, Input, InvalidBytes};

/// Thousandths.
impl Codec for Amount {
    fn put(&self, out: &mut Vec<u8>) {
        self.milli().put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok(Self::from_milli(i64::take(input)?))
    }
}

impl Codec for RoleName {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self.as_str(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let name = input.text(|text| Self::new(text.to_owned()))?;
        name.map_err(|error| input.refuse(error.to_string()))
    }
}

impl Codec for TaskId {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self.as_str(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let id = input.text(|text| Self::new(text.to_owned()))?;
        id.map_err(|error| input.refuse(error.to_string()))
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// The first number, and how many follow it: a range that is not one cannot be written down.
impl Codec for Range {
    fn put(&self, out: &mut Vec<u8>) {
        self.begin().put(out);
        (self.end() - self.begin()).put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let (begin, more): (u64, u64) = (Codec::take(input)?, Codec::take(input)?);
        Self::new(begin, begin.saturating_add(more))
            .map_err(|error| input.refuse(error.to_string()))
    }
}

impl Codec for Ranges {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.as_slice().len() as u64, out);
        Range::put_all(self.as_slice(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        Ok(Self::new(Vec::<Range>::take(input)?))
    }
}

impl Codec for Bundle {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            cpus,
            mem,
            disk,
            gpus,
            ports,
            other,
        } = self;
        for amount in [cpus, mem, disk, gpus] {
            amount.put(out);
        }
        ports.put(out);
        other.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let mut amounts = [Amount::ZERO; 4];
        for amount in &mut amounts {
            *amount = Amount::take(input)?;
            if amount.milli() < 0 {
                return Err(input.refuse(format!("{} thousandths of a resource", amount.milli())));
            }
        }
        let [cpus, mem, disk, gpus] = amounts;
        let mut bundle = Self {
            cpus,
            mem,
            disk,
            gpus,
            ports: Codec::take(input)?,
            other: Codec::take(input)?,
        };
        // The model keeps no empty quantities.
        bundle.other.retain(|_, quantity| !quantity.is_empty());
        Ok(bundle)
    }
}

impl Codec for Resources {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.piles().count() as u64, out);
        for (terms, bundle) in self.piles() {
            terms.put(out);
            bundle.put(out);
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let mut resources = Self::none();
        for _ in 0..input.length()? {
            resources.add_pile(&Codec::take(input)?, &Codec::take(input)?);
        }
        Ok(resources)
    }
}

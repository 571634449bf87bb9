//! Facts on disk: types of their own, so that the model may change without the disk's form.
//!
//! A wire type mirrors one model type, field by field; the macros below write both conversions and
//! take model values apart in full, so that a field added to the model does not compile until it
//! is stored. Reading checks every invariant of the model again: what comes from disk is input.
//!
//! The encoding is postcard: compact, not self-describing. Any change of a type here is therefore a
//! new format (see `embedded/format.rs`), with the old types kept for reading, unless a variant is
//! added at the end of an enum; the test `encoding_of_this_format_is_fixed` fails until that is done.

mod agent;
mod basic;
mod event;
mod fact;
#[cfg(test)]
pub(crate) mod random;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use proffer_model::fact::Fact;

/// Why stored bytes are not a fact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error("cannot be decoded ({0})")]
    Encoding(#[from] postcard::Error),
    #[error("holds {0}")]
    Value(String),
}

/// The stored form of a fact, without its state writes.
pub(crate) fn encode(fact: &Fact) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(&fact::Fact::of(fact))
}

/// A fact from its stored form.
pub(crate) fn decode(bytes: &[u8]) -> Result<Fact, InvalidRecord> {
    let (fact, rest) = postcard::take_from_bytes::<fact::Fact>(bytes)?;
    if !rest.is_empty() {
        return Err(InvalidRecord::Value(format!(
            "{} bytes after the fact's end",
            rest.len()
        )));
    }
    fact.into_model()
}

/// The stored form of an `M`.
trait Wire<M>: Sized {
    fn of(model: &M) -> Self;
    fn into_model(self) -> Result<M, InvalidRecord>;
}

macro_rules! wire_same {
    ($($type:ty),*) => {$(
        impl Wire<$type> for $type {
            fn of(model: &$type) -> Self {
                model.clone()
            }
            fn into_model(self) -> Result<$type, InvalidRecord> {
                Ok(self)
            }
        }
    )*};
}

macro_rules! wire_struct {
    ($name:ident = $model:ty { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        pub(super) struct $name { $($field: $type),* }

        impl Wire<$model> for $name {
            fn of(model: &$model) -> Self {
                type M = $model;
                let M { $($field),* } = model;
                Self { $($field: Wire::of($field)),* }
            }
            fn into_model(self) -> Result<$model, InvalidRecord> {
                type M = $model;
                Ok(M { $($field: Wire::into_model(self.$field)?),* })
            }
        }
    };
}

macro_rules! wire_enum {
    ($name:ident = $model:ty { $(
        $variant:ident $(( $($item:ident: $item_type:ty),* ))? $({ $($field:ident: $type:ty),* })?
    ),* $(,)? }) => {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        pub(super) enum $name {
            $($variant $(( $($item_type),* ))? $({ $($field: $type),* })?),*
        }

        impl Wire<$model> for $name {
            fn of(model: &$model) -> Self {
                type M = $model;
                match model {
                    $(M::$variant $(( $($item),* ))? $({ $($field),* })? =>
                        Self::$variant $(( $(Wire::of($item)),* ))? $({ $($field: Wire::of($field)),* })?,)*
                }
            }
            fn into_model(self) -> Result<$model, InvalidRecord> {
                type M = $model;
                Ok(match self {
                    $(Self::$variant $(( $($item),* ))? $({ $($field),* })? =>
                        M::$variant $(( $(Wire::into_model($item)?),* ))? $({ $($field: Wire::into_model($field)?),* })?,)*
                })
            }
        }
    };
}

use {wire_enum, wire_struct};

wire_same!(bool, u8, u16, u32, u64, i32, String);

impl<M, W: Wire<M>> Wire<Vec<M>> for Vec<W> {
    fn of(model: &Vec<M>) -> Self {
        model.iter().map(W::of).collect()
    }
    fn into_model(self) -> Result<Vec<M>, InvalidRecord> {
        self.into_iter().map(W::into_model).collect()
    }
}

impl<M, W: Wire<M>> Wire<Option<M>> for Option<W> {
    fn of(model: &Option<M>) -> Self {
        model.as_ref().map(W::of)
    }
    fn into_model(self) -> Result<Option<M>, InvalidRecord> {
        self.map(W::into_model).transpose()
    }
}

impl<A, B, V: Wire<A>, W: Wire<B>> Wire<(A, B)> for (V, W) {
    fn of(model: &(A, B)) -> Self {
        (V::of(&model.0), W::of(&model.1))
    }
    fn into_model(self) -> Result<(A, B), InvalidRecord> {
        Ok((self.0.into_model()?, self.1.into_model()?))
    }
}

impl<M, W: Wire<M>> Wire<Box<M>> for Box<W> {
    fn of(model: &Box<M>) -> Self {
        Box::new(W::of(model))
    }
    fn into_model(self) -> Result<Box<M>, InvalidRecord> {
        Ok(Box::new(W::into_model(*self)?))
    }
}

impl<M, W: Wire<M>> Wire<Arc<M>> for W {
    fn of(model: &Arc<M>) -> Self {
        W::of(&**model)
    }
    fn into_model(self) -> Result<Arc<M>, InvalidRecord> {
        Ok(Arc::new(W::into_model(self)?))
    }
}

impl Wire<Arc<str>> for String {
    fn of(model: &Arc<str>) -> Self {
        model.to_string()
    }
    fn into_model(self) -> Result<Arc<str>, InvalidRecord> {
        Ok(self.into())
    }
}

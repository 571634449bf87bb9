//! Lists of fields and variants, made into [`Codec`](crate::Codec)s.

/// Gives a struct its form: its fields in the order of the list, which must be all of them.
///
/// ```
/// struct Point { x: u32, y: u32 }
/// proffer_codec::codec_struct!(Point { x, y });
/// ```
#[macro_export]
macro_rules! codec_struct {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Codec for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::Codec::put($field, out);)*
            }
            fn take(input: &mut $crate::Input<'_>) -> Result<Self, $crate::InvalidBytes> {
                Ok(Self { $($field: $crate::Codec::take(input)?),* })
            }
        }
    };
}

/// Gives an enum its form: the place of the variant in the list, which must have all of them, and
/// what the variant holds.
///
/// ```
/// enum Shape { Nothing, Circle(u32), Box { width: u32, height: u32 } }
/// proffer_codec::codec_enum!(Shape { Nothing, Circle(radius), Box { width, height } });
/// ```
#[macro_export]
macro_rules! codec_enum {
    ($type:ty { $(
        $variant:ident $(( $($item:ident),* $(,)? ))? $({ $($field:ident),* $(,)? })?
    ),* $(,)? }) => {
        impl $crate::Codec for $type {
            fn put(&self, out: &mut Vec<u8>) {
                #[derive(Clone, Copy)]
                enum Place { $($variant),* }
                match self {
                    $(Self::$variant $(( $($item),* ))? $({ $($field),* })? => {
                        out.push(Place::$variant as u8);
                        $($($crate::Codec::put($item, out);)*)?
                        $($($crate::Codec::put($field, out);)*)?
                    })*
                }
            }
            fn take(input: &mut $crate::Input<'_>) -> Result<Self, $crate::InvalidBytes> {
                #[derive(Clone, Copy)]
                enum Place { $($variant),* }
                const COUNT: u8 = [$(Place::$variant),*].len() as u8;
                let place = input.variant(COUNT)?;
                $(if place == Place::$variant as u8 {
                    $($(let $item = $crate::Codec::take(input)?;)*)?
                    $($(let $field = $crate::Codec::take(input)?;)*)?
                    return Ok(Self::$variant $(( $($item),* ))? $({ $($field),* })?);
                })*
                Err(input.refuse("no alternative"))
            }
        }
    };
}

/// Gives newtypes around numbers the number's form.
#[macro_export]
macro_rules! codec_newtype {
    ($($type:ident),* $(,)?) => {$(
        impl $crate::Codec for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $crate::Codec::put(&self.0, out);
            }
            fn take(input: &mut $crate::Input<'_>) -> Result<Self, $crate::InvalidBytes> {
                Ok(Self($crate::Codec::take(input)?))
            }
        }
    )*};
}

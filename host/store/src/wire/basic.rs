//! Numbers, names, amounts, resources.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use proffer_model as model;
use serde::{Deserialize, Serialize};

use super::{InvalidRecord, Wire, wire_enum, wire_struct};

macro_rules! wire_number {
    ($($model:path: $repr:ty),* $(,)?) => {$(
        impl Wire<$model> for $repr {
            fn of(model: &$model) -> Self {
                model.0
            }
            fn into_model(self) -> Result<$model, InvalidRecord> {
                Ok($model(self))
            }
        }
    )*};
}

wire_number! {
    model::AgentId: u32,
    model::FrameworkId: u32,
    model::OfferId: u64,
    model::LaunchNumber: u64,
    model::StepNumber: u64,
    model::RequestId: u64,
    model::Timestamp: u64,
    model::Duration: u64,
}

/// Thousandths. Signed on disk, because the model's are; whether a negative one makes sense is for
/// the type around it to say.
impl Wire<model::Amount> for i64 {
    fn of(model: &model::Amount) -> Self {
        model.milli()
    }
    fn into_model(self) -> Result<model::Amount, InvalidRecord> {
        Ok(model::Amount::from_milli(self))
    }
}

impl Wire<model::RoleName> for String {
    fn of(model: &model::RoleName) -> Self {
        model.as_str().to_owned()
    }
    fn into_model(self) -> Result<model::RoleName, InvalidRecord> {
        model::RoleName::new(self).map_err(|error| InvalidRecord::Value(error.to_string()))
    }
}

impl Wire<model::TaskId> for String {
    fn of(model: &model::TaskId) -> Self {
        model.as_str().to_owned()
    }
    fn into_model(self) -> Result<model::TaskId, InvalidRecord> {
        model::TaskId::new(self).map_err(|error| InvalidRecord::Value(error.to_string()))
    }
}

wire_struct!(
    Reason = model::Reason {
        code: Code,
        text: String,
        remedy: Remedy,
    }
);

/// A reason's code: a text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Code(String);

impl Wire<Cow<'static, str>> for Code {
    fn of(model: &Cow<'static, str>) -> Self {
        Self(model.to_string())
    }
    fn into_model(self) -> Result<Cow<'static, str>, InvalidRecord> {
        Ok(Cow::Owned(self.0))
    }
}

wire_enum!(
    Remedy = model::Remedy {
        Retry,
        ChooseAnew,
        Mend,
        Denied,
        Unsupported,
    }
);

/// The first number, and how many follow it: a range that is not one cannot be written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Range {
    begin: u64,
    more: u64,
}

impl Wire<model::Range> for Range {
    fn of(model: &model::Range) -> Self {
        Self {
            begin: model.begin(),
            more: model.end() - model.begin(),
        }
    }
    fn into_model(self) -> Result<model::Range, InvalidRecord> {
        model::Range::new(self.begin, self.begin.saturating_add(self.more))
            .map_err(|error| InvalidRecord::Value(error.to_string()))
    }
}

/// Ascending.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ranges(Vec<Range>);

impl Wire<model::Ranges> for Ranges {
    fn of(model: &model::Ranges) -> Self {
        Self(model.as_slice().iter().map(Range::of).collect())
    }
    fn into_model(self) -> Result<model::Ranges, InvalidRecord> {
        let ranges: Vec<model::Range> = self.0.into_model()?;
        Ok(model::Ranges::new(ranges))
    }
}

wire_enum!(Quantity = model::Quantity {
    Scalar(amount: i64),
    Ranges(ranges: Ranges),
    Items(items: Items),
});

/// A set of names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Items(Vec<String>);

impl Wire<BTreeSet<Arc<str>>> for Items {
    fn of(model: &BTreeSet<Arc<str>>) -> Self {
        Self(model.iter().map(String::of).collect())
    }
    fn into_model(self) -> Result<BTreeSet<Arc<str>>, InvalidRecord> {
        Ok(self.0.into_iter().map(Into::into).collect())
    }
}

/// What one pile holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bundle {
    cpus: i64,
    mem: i64,
    disk: i64,
    gpus: i64,
    ports: Ranges,
    other: Vec<(String, Quantity)>,
}

impl Wire<model::Bundle> for Bundle {
    fn of(model: &model::Bundle) -> Self {
        let model::Bundle {
            cpus,
            mem,
            disk,
            gpus,
            ports,
            other,
        } = model;
        Self {
            cpus: cpus.milli(),
            mem: mem.milli(),
            disk: disk.milli(),
            gpus: gpus.milli(),
            ports: Ranges::of(ports),
            other: other
                .iter()
                .map(|(kind, quantity)| (kind.to_string(), Quantity::of(quantity)))
                .collect(),
        }
    }

    fn into_model(self) -> Result<model::Bundle, InvalidRecord> {
        let mut bundle = model::Bundle {
            cpus: not_negative(self.cpus)?,
            mem: not_negative(self.mem)?,
            disk: not_negative(self.disk)?,
            gpus: not_negative(self.gpus)?,
            ports: self.ports.into_model()?,
            other: Default::default(),
        };
        for (kind, quantity) in self.other {
            let quantity: model::Quantity = quantity.into_model()?;
            if let model::Quantity::Scalar(amount) = &quantity {
                not_negative(amount.milli())?;
            }
            // The model keeps no empty quantities.
            if !quantity.is_empty() {
                bundle.other.insert(kind.into(), quantity);
            }
        }
        Ok(bundle)
    }
}

fn not_negative(milli: i64) -> Result<model::Amount, InvalidRecord> {
    if milli < 0 {
        return Err(InvalidRecord::Value(format!(
            "{milli} thousandths of a resource"
        )));
    }
    Ok(model::Amount::from_milli(milli))
}

wire_struct!(Terms = model::Terms {
    reserved: Vec<String>,
    label: String,
    volume: String,
    disk: String,
    marks: Marks,
});

wire_struct!(
    Marks = model::Marks {
        dynamic: bool,
        revocable: bool,
        shared: bool,
        indivisible: bool,
    }
);

/// Piles with their terms.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Resources(Vec<(Terms, Bundle)>);

impl Wire<model::Resources> for Resources {
    fn of(model: &model::Resources) -> Self {
        Self(
            model
                .piles()
                .map(|(terms, bundle)| (Terms::of(terms), Bundle::of(bundle)))
                .collect(),
        )
    }
    fn into_model(self) -> Result<model::Resources, InvalidRecord> {
        let mut resources = model::Resources::none();
        for (terms, bundle) in self.0 {
            resources.add_pile(&terms.into_model()?, &bundle.into_model()?);
        }
        Ok(resources)
    }
}

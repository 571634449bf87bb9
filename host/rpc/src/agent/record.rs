//! A launch, and an update, as bytes for an agent's checkpoint: the wire's own encoding, which is versioned by field
//! number and checked in full when it is read again.

use proffer_model::TaskUpdate;
use proffer_model::agent::Launch;
use prost::Message;

use crate::proto::agent::v0 as wire;
use crate::proto::values::v0 as values;
use crate::values::InvalidMessage;

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are damaged.
    #[error("damaged record: {0}")]
    Damaged(String),
    /// They are well-formed, and wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
}

/// The record of a launch.
#[must_use]
pub fn launch_to_record(launch: &Launch) -> Vec<u8> {
    wire::Launch::from(launch).encode_to_vec()
}

/// The launch of a record.
///
/// # Errors
/// If the bytes are not what [`launch_to_record`] made.
pub fn launch_from_record(record: &[u8]) -> Result<Launch, RecordError> {
    let message =
        wire::Launch::decode(record).map_err(|error| RecordError::Damaged(error.to_string()))?;
    Ok(message.try_into()?)
}

/// The record of an update.
#[must_use]
pub fn update_to_record(update: &TaskUpdate) -> Vec<u8> {
    values::TaskUpdate::from(update).encode_to_vec()
}

/// The update of a record.
///
/// # Errors
/// If the bytes are not what [`update_to_record`] made.
pub fn update_from_record(record: &[u8]) -> Result<TaskUpdate, RecordError> {
    let message = values::TaskUpdate::decode(record)
        .map_err(|error| RecordError::Damaged(error.to_string()))?;
    Ok(message.try_into()?)
}

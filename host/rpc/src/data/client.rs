//! Fetching a file from an agent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tonic::{Code, Status, Streaming};

use super::{FetchFile, FetchRefused};
use crate::proto::data::v0::data_service_client::DataServiceClient;
use crate::proto::data::v0::{Chunk, FetchRequest};
use crate::token::Token;
use crate::transport::{self, ConnectError, PeerAddress, Tls, TokenChannel};

/// A peer that sends nothing for so long has stalled.
const CHUNK_WITHIN: Duration = Duration::from_secs(30);

/// Connections kept open; a reduce task reads from about as many agents.
const CHANNELS_MAX: usize = 256;

/// A file on its way.
#[derive(Debug)]
pub struct Fetched {
    chunks: Streaming<Chunk>,
    first: Option<Bytes>,
    size: u64,
    left: u64,
}

/// Why a fetch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The agent does not serve it.
    #[error("{address} does not serve {path} of {launch}")]
    Refused {
        /// Who was asked.
        address: String,
        /// Which file.
        path: String,
        /// Of which launch.
        launch: proffer_model::LaunchNumber,
        /// Why not.
        #[source]
        why: FetchRefused,
    },
    /// The agent cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The stream broke off.
    #[error("the transfer broke off: {0}")]
    Broken(String),
}

/// Fetches files from agents; connections are kept for the next file.
#[derive(Debug)]
pub struct DataClient {
    token: Token,
    tls: Tls,
    channels: Mutex<BTreeMap<String, TokenChannel>>,
}

impl DataClient {
    /// A client without connections.
    #[must_use]
    pub fn new(token: Token, tls: Tls) -> Self {
        Self {
            token,
            tls,
            channels: Mutex::new(BTreeMap::new()),
        }
    }

    /// Asks an agent for a file; how long it is is known when this returns.
    ///
    /// # Errors
    /// If the agent cannot be reached or does not serve the file.
    pub async fn fetch(
        &self,
        address: &PeerAddress,
        file: &FetchFile,
    ) -> Result<Fetched, FetchError> {
        let channel = self.channel(address).await?;
        let request = FetchRequest {
            launch: file.launch.0,
            path: file.path.clone(),
            offset: file.offset,
        };
        let mut client = DataServiceClient::new(channel);
        let asked = tokio::time::timeout(CHUNK_WITHIN, client.fetch(request)).await;
        let answer = asked
            .map_err(|_| stalled())
            .and_then(|answer| answer.map_err(|status| refusal(address, file, &status)));
        let mut chunks = match answer {
            Ok(answer) => answer.into_inner(),
            Err(error) => {
                // A channel that may be broken is not kept.
                if !matches!(error, FetchError::Refused { .. }) {
                    self.kept().remove(&address.to_string());
                }
                return Err(error);
            }
        };
        let first = next(&mut chunks).await?;
        let Some((first, size)) = first.and_then(|chunk| Some((chunk.data, chunk.size?))) else {
            return Err(FetchError::Broken("it has no beginning".to_owned()));
        };
        Ok(Fetched {
            chunks,
            first: Some(first),
            size,
            left: size,
        })
    }

    async fn channel(&self, address: &PeerAddress) -> Result<TokenChannel, ConnectError> {
        let name = address.to_string();
        if let Some(channel) = self.kept().get(&name) {
            return Ok(channel.clone());
        }
        let channel = transport::connect(&address.into(), &self.token, &self.tls).await?;
        let mut kept = self.kept();
        if kept.len() >= CHANNELS_MAX {
            kept.pop_first();
        }
        kept.insert(name, channel.clone());
        Ok(channel)
    }

    /// A panic while it was held cannot have left it half changed.
    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, TokenChannel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetched {
    /// How many bytes there are in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; none at the end, which is only there when all have come.
    ///
    /// # Errors
    /// If the stream breaks off or stalls.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let data = match self.first.take() {
            Some(first) => first,
            None if self.left == 0 => return Ok(None),
            None => match next(&mut self.chunks).await? {
                Some(chunk) => chunk.data,
                None => {
                    return Err(FetchError::Broken(format!(
                        "{} of {} bytes are missing",
                        self.left, self.size
                    )));
                }
            },
        };
        self.left = self
            .left
            .checked_sub(data.len() as u64)
            .ok_or_else(|| FetchError::Broken("more came than was promised".to_owned()))?;
        if data.is_empty() && self.left == 0 {
            return Ok(None);
        }
        Ok(Some(data))
    }
}

async fn next(chunks: &mut Streaming<Chunk>) -> Result<Option<Chunk>, FetchError> {
    match tokio::time::timeout(CHUNK_WITHIN, chunks.message()).await {
        Ok(chunk) => chunk.map_err(|status| FetchError::Broken(status.message().to_owned())),
        Err(_) => Err(stalled()),
    }
}

fn stalled() -> FetchError {
    FetchError::Broken(format!("nothing came for {} s", CHUNK_WITHIN.as_secs()))
}

fn refusal(address: &PeerAddress, file: &FetchFile, status: &Status) -> FetchError {
    let text = status.message().to_owned();
    let why = match status.code() {
        Code::NotFound => FetchRefused::Lost(text),
        Code::FailedPrecondition => FetchRefused::NotYet(text),
        Code::InvalidArgument => FetchRefused::Invalid(text),
        Code::Internal => FetchRefused::Failed(text),
        _ => return FetchError::Connect(transport::failure(address, status)),
    };
    FetchError::Refused {
        address: address.to_string(),
        path: file.path.clone(),
        launch: file.launch,
        why,
    }
}

//! An agent's side: reads a file on a thread of its own and streams it, never more than a few chunks
//! ahead of the network.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proffer_model::LaunchNumber;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{FetchFile, FetchRefused, SandboxStore};
use crate::proto::data::v0::data_service_server::{DataService, DataServiceServer};
use crate::proto::data::v0::{Chunk, FetchRequest};

/// Large enough that the work per chunk is small beside copying it.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// Files read at once; more callers wait. Each takes a thread and a few chunks.
const READERS_MAX: usize = 32;

/// Whoever does not take a chunk for so long has stalled, and others wait for its reader.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn data_service<S: SandboxStore>(store: S) -> DataServiceServer<impl DataService> {
    DataServiceServer::new(Files {
        store: Arc::new(store),
        readers: Arc::new(tokio::sync::Semaphore::new(READERS_MAX)),
    })
}

struct Files<S> {
    store: Arc<S>,
    readers: Arc<tokio::sync::Semaphore>,
}

#[tonic::async_trait]
impl<S: SandboxStore> DataService for Files<S> {
    type FetchStream = ReceiverStream<Result<Chunk, Status>>;

    async fn fetch(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let FetchRequest {
            launch,
            path,
            offset,
        } = request.into_inner();
        let file = FetchFile {
            launch: LaunchNumber(launch),
            path,
            offset,
        };
        let store = Arc::clone(&self.store);
        let Ok(permit) = Arc::clone(&self.readers).acquire_owned().await else {
            return Err(Status::unavailable("the agent is shutting down"));
        };
        let opened = tokio::task::spawn_blocking(move || {
            let mut opened = store.open(&file)?;
            let failed = |error: std::io::Error| FetchRefused::Failed(error.to_string());
            let length = opened.metadata().map_err(failed)?.len();
            let offset = file.offset.min(length);
            opened.seek(SeekFrom::Start(offset)).map_err(failed)?;
            Ok((opened, length - offset))
        });
        let (opened, size) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(refused)) => return Err(status(refused)),
            Err(_) => return Err(Status::internal("the file's reader ended")),
        };
        let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
        // Ends with the file, or when whoever fetches goes away or stalls, which fails the next send.
        tokio::task::spawn_blocking(move || {
            read(opened, size, &chunks);
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Sends `size` bytes; a file that has shrunk is told as an error, one that grew is cut there.
fn read(file: File, size: u64, chunks: &mpsc::Sender<Result<Chunk, Status>>) {
    let runtime = tokio::runtime::Handle::current();
    let mut file = file.take(size);
    let mut left = size;
    let mut first = true;
    loop {
        let wanted = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let mut data = vec![0; wanted];
        let chunk = match file.read_exact(&mut data) {
            Ok(()) => Ok(Chunk {
                data: Bytes::from(data),
                size: first.then_some(size),
            }),
            Err(error) => Err(Status::data_loss(format!("reading failed: {error}"))),
        };
        left -= wanted as u64;
        let failed = chunk.is_err();
        // Also the way out when whoever fetches has gone.
        let sent = runtime.block_on(chunks.send_timeout(chunk, TAKEN_WITHIN));
        if sent.is_err() || failed || left == 0 {
            return;
        }
        first = false;
    }
}

fn status(refused: FetchRefused) -> Status {
    match refused {
        FetchRefused::Lost(text) => Status::not_found(text),
        FetchRefused::NotYet(text) => Status::failed_precondition(text),
        FetchRefused::Invalid(text) => Status::invalid_argument(text),
        FetchRefused::Failed(text) => Status::internal(text),
    }
}

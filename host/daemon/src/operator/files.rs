//! Files of tasks, fetched from the agents that have them.

use std::time::Duration;

use bytes::Bytes;
use proffer_core::TaskView;
use proffer_rpc::PeerAddress;
use proffer_rpc::data::{FetchError, FetchFile, FetchRefused};
use proffer_rpc::operator as rpc;
use proffer_rpc::operator::{Answer, CHUNKS_AHEAD, Chunks, OperatorError};
use tokio::sync::mpsc;

use super::HostOperator;

/// Between two looks at a log that is followed.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

impl HostOperator {
    pub(super) async fn output(&self, which: rpc::FetchOutput) -> Answer<Chunks> {
        let view = self.task_view(which.framework, which.task).await?;
        let address = address_of(&view)?;
        let has_ended = view.state.is_final();
        let file = FetchFile {
            launch: view.launch,
            path: which.path,
            offset: 0,
        };
        let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let this = self.clone();
        // Ends with the file, or when nobody takes the chunks any more.
        tokio::spawn(async move {
            if let Err(mut error) = this.copy(&address, &file, &send).await {
                // What an ended task's agent does not give out now it never will.
                if let (true, OperatorError::Conflict(text)) = (has_ended, &error) {
                    error = OperatorError::NotFound(text.clone());
                }
                // Whoever asked has gone: nobody misses the error.
                let _gone = send.send(Err(error)).await.is_err();
            }
        });
        Ok(chunks)
    }

    pub(super) async fn logs(&self, which: rpc::TaskLogs) -> Answer<Chunks> {
        let path = match which.stream {
            rpc::LogStream::Stdout => "stdout",
            rpc::LogStream::Stderr => "stderr",
        };
        let view = self
            .task_view(which.framework.clone(), which.task.clone())
            .await?;
        let address = address_of(&view)?;
        let (send, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let this = self.clone();
        // Ends with the task, or when nobody takes the chunks any more.
        tokio::spawn(async move {
            if let Err(error) = this.follow(&address, view, path, which, &send).await {
                let _gone = send.send(Err(error)).await.is_err();
            }
        });
        Ok(chunks)
    }

    async fn follow(
        &self,
        address: &PeerAddress,
        mut view: TaskView,
        path: &str,
        which: rpc::TaskLogs,
        send: &mpsc::Sender<Result<Bytes, OperatorError>>,
    ) -> Result<(), OperatorError> {
        let mut offset = 0;
        loop {
            let ended = view.state.is_final();
            let file = FetchFile {
                launch: view.launch,
                path: path.to_owned(),
                offset,
            };
            match self.copy(address, &file, send).await {
                Ok(copied) => offset += copied,
                // A task that has not begun has no log yet.
                Err(OperatorError::NotFound(_)) if which.follow && !ended => {}
                Err(error) => return Err(error),
            }
            if ended || !which.follow || send.is_closed() {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
            view = self
                .task_view(which.framework.clone(), which.task.clone())
                .await?;
        }
    }

    /// Copies a file to whoever asked; answers how much.
    async fn copy(
        &self,
        address: &PeerAddress,
        file: &FetchFile,
        send: &mpsc::Sender<Result<Bytes, OperatorError>>,
    ) -> Result<u64, OperatorError> {
        let mut fetched = self.data.fetch(address, file).await.map_err(failure)?;
        let mut copied = 0;
        while let Some(chunk) = fetched.next().await.map_err(failure)? {
            copied += chunk.len() as u64;
            if send.send(Ok(chunk)).await.is_err() {
                return Ok(copied);
            }
        }
        Ok(copied)
    }

    async fn task_view(&self, framework: String, task: String) -> Answer<TaskView> {
        self.look(move |core| {
            core.task_named(&framework, &task).ok_or_else(|| {
                OperatorError::NotFound(format!(
                    "{framework} has no task '{task}'; `proffer task list --framework {framework}` shows those there are"
                ))
            })
        })
        .await?
    }
}

fn address_of(view: &TaskView) -> Answer<PeerAddress> {
    view.data_address.parse().map_err(|error| {
        OperatorError::Unavailable(format!("{} serves no files: {error}", view.agent))
    })
}

fn failure(error: FetchError) -> OperatorError {
    match error {
        FetchError::Refused {
            why: FetchRefused::Lost(text),
            ..
        } => OperatorError::NotFound(text),
        FetchError::Refused {
            why: FetchRefused::NotYet(text),
            ..
        } => OperatorError::Conflict(text),
        FetchError::Refused {
            why: FetchRefused::Invalid(text),
            ..
        } => OperatorError::Invalid(text),
        FetchError::Refused {
            why: FetchRefused::Failed(text),
            ..
        } => OperatorError::Unavailable(text),
        FetchError::Connect(error) => OperatorError::Unavailable(error.to_string()),
        FetchError::Broken(text) => OperatorError::Unavailable(text),
    }
}

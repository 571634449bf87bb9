//! What agent and runner tell each other over the runner's socket: frames of a length and a postcard
//! value. Both are of one program, so the format has a version and no history.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Another version is refused: a runner of an older program is left to finish what it runs, told by
/// its status log.
pub(crate) const VERSION: u32 = 3;

/// Arguments and environment of a task are at most 1 MiB; status lists are small.
const FRAME_MAX: usize = 16 * 1024 * 1024;

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToRunner {
    /// First; with the launches, of this runner and those before it, of which the agent does not know for
    /// good how they ended.
    Hello { version: u32, open: Vec<u64> },
    /// Start this, unless it was started before.
    Start(Box<StartTask>),
    /// TERM now, KILL after the grace; later ones can only shorten it.
    Stop { launch: u64, grace_ms: u64 },
    /// How it ended is known for good.
    Forget { launch: u64 },
    /// End, if nothing runs.
    Exit,
}

/// From the runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromRunner {
    /// Answer to the hello: all that is not forgotten.
    Hello {
        version: u32,
        launches: Vec<(u64, Status)>,
    },
    /// News of a launch.
    Status { launch: u64, status: Status },
}

/// Where a launch stands with its runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    /// About to be started.
    Starting,
    /// It runs: as a process with this id and start time, or in the runner itself.
    Running(Option<ProcessMark>),
    /// It ended.
    Ended(Ending),
}

/// A process and when it was started, in ticks since boot: ids are used again, both together are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessMark {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

/// How a task ended, and whether it had been told to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) how: How,
    pub(crate) stopped: bool,
    /// Whether it left a result of its own in its directory.
    pub(crate) has_result: bool,
}

/// In which way a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Exited(i32),
    Signalled(i32),
    OutOfMemory(String),
    Broke(String),
    NotStarted(String),
}

/// A task, ready to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartTask {
    pub(crate) launch: u64,
    /// Its directory, relative to the runner's: the working directory of a process, `.` of a component.
    pub(crate) work: String,
    pub(crate) program: Program,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Program {
    Process {
        argv: Vec<String>,
    },
    Wasm {
        /// The file, relative to the runner's directory.
        component: String,
        /// Whether its directory is made by the runner, when it first wants one. Its component is then kept
        /// for many tasks, under a name that no other ever has.
        is_late: bool,
        /// The name first.
        args: Vec<String>,
        memory_bytes: u64,
        /// Directories to read, relative to the runner's, and how the task knows them.
        inputs: Vec<(String, String)>,
    },
}

/// Writes one frame.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    to: &mut W,
    message: &impl Serialize,
) -> io::Result<()> {
    let content = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    if content.len() > FRAME_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&content);
    to.write_all(&frame).await
}

/// Reads one frame; none at the end of the stream. Not cancel-safe: keep the future.
pub(crate) async fn read_frame<R: AsyncRead + Unpin, T: DeserializeOwned>(
    from: &mut R,
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    let mut content = vec![0; length];
    from.read_exact(&mut content).await?;
    postcard::from_bytes(&content)
        .map(Some)
        .map_err(io::Error::other)
}

//! A way between an agent and its host that can be cut, stalled and healed: a partition that needs no
//! rights.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What the way is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Bytes wait; nobody is told.
    Stalled,
    /// Connections are closed, new ones too.
    Cut,
    /// The test is over.
    Gone,
}

/// A proxy for TCP on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    target: String,
}

#[derive(Debug)]
struct State {
    way: Way,
    /// Both ends of every connection, to close them.
    streams: Vec<TcpStream>,
}

impl Proxy {
    pub(super) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                way: Way::Open,
                streams: Vec::new(),
            }),
            changed: Condvar::new(),
            target: target.to_owned(),
        });
        let accepting = Arc::clone(&shared);
        // Ends with the connection that `drop` makes.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.way() == Way::Gone {
                    return;
                }
                accepting.connect(stream);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Closes what is there and lets nobody in, as when a cable is pulled and the switch says so.
    pub fn cut(&self) {
        self.shared.set(Way::Cut);
    }

    /// Lets nothing through and says nothing, as when packets are lost.
    pub fn stall(&self) {
        self.shared.set(Way::Stalled);
    }

    /// All is well again; bytes that waited arrive.
    pub fn heal(&self) {
        self.shared.set(Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(Way::Gone);
        // Wakes the thread that accepts; if it is gone, so much the better.
        let _woken = TcpStream::connect(&self.address).is_ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self) -> Way {
        self.state().way
    }

    fn set(&self, way: Way) {
        let mut state = self.state();
        state.way = way;
        if matches!(way, Way::Cut | Way::Gone) {
            for stream in state.streams.drain(..) {
                // It may be closed already.
                let _closed = stream.shutdown(Shutdown::Both).is_ok();
            }
        }
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Self>, from: TcpStream) {
        if self.way() == Way::Cut {
            return;
        }
        // A host that is down refuses; so does the proxy then, by closing.
        let Ok(to) = TcpStream::connect(&self.target) else {
            return;
        };
        if let Err(error) = self.join(&from, &to) {
            println!("the proxy dropped a connection: {error}");
        }
    }

    fn join(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let mut state = self.state();
        for (from, to) in [(from, to), (to, from)] {
            let (read, write) = (from.try_clone()?, to.try_clone()?);
            state.streams.push(from.try_clone()?);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pass_on(read, write));
        }
        Ok(())
    }

    /// Until either end closes. What has been read waits while the way is stalled.
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            let mut state = self.state();
            while state.way == Way::Stalled {
                state = match self.changed.wait(state) {
                    Ok(state) => state,
                    Err(poisoned) => poisoned.into_inner(),
                };
            }
            let is_over = count == 0 || state.way != Way::Open;
            drop(state);
            if is_over || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            // The other direction's thread may have closed it.
            let _closed = stream.shutdown(Shutdown::Both).is_ok();
        }
    }
}

//! Inputs from web servers.

use std::time::Duration;

use super::place::Place;
use super::{Problem, on_a_thread};

/// How long a download may take, and how far it may go.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// To find the server, to connect, to get the first byte: each so long.
    answer_within: Duration,
    /// Without a byte.
    silence: Duration,
    /// For the whole file.
    all_within: Duration,
    redirects: u32,
}

/// A server that is slow at first or falls silent for half a minute has mostly died; an hour is the largest
/// input over a slow line; a file that is more than a few redirects away is in a loop.
const LIMITS: Limits = Limits {
    answer_within: Duration::from_secs(30),
    silence: Duration::from_secs(30),
    all_within: Duration::from_secs(3_600),
    redirects: 5,
};

/// Downloads a URL; its size is limited by the place. A page that is gone is a lost input. Dropped early, the
/// connection is closed at once and the thread ends.
pub(super) async fn download(url: String, place: Place) -> Result<(), Problem> {
    download_within(LIMITS, url, place).await
}

async fn download_within(limits: Limits, url: String, place: Place) -> Result<(), Problem> {
    let config = ureq::Agent::config_builder()
        .timeout_resolve(Some(limits.answer_within))
        .timeout_connect(Some(limits.answer_within))
        .timeout_recv_response(Some(limits.answer_within))
        .timeout_per_read(Some(limits.silence))
        .timeout_per_write(Some(limits.silence))
        .timeout_global(Some(limits.all_within))
        .max_redirects(limits.redirects)
        .build();
    let agent = Connections(ureq::Agent::new_with_config(config));
    let here = agent.0.clone();
    on_a_thread(move || get(&here, &url, place)).await
}

/// Closes its connections when it is dropped.
struct Connections(ureq::Agent);

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.clone().shutdown();
    }
}

fn get(agent: &ureq::Agent, url: &str, place: Place) -> Result<(), Problem> {
    match agent.get(url).call() {
        Ok(answer) => {
            let (_, body) = answer.into_parts();
            if let Some(bytes) = body.content_length() {
                place.expect(bytes)?;
            }
            place
                .copy(body.into_reader())
                .map_err(|error| Problem::Failed(format!("{url}: {error}")))
        }
        Err(ureq::Error::StatusCode(status @ (404 | 410))) => {
            Err(Problem::Lost(format!("{url} answered {status}")))
        }
        Err(error) => Err(Problem::Failed(format!("{url}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use cap_std::ambient_authority;
    use cap_std::fs::Dir;
    use proffer_model::InputMarks;
    use proffer_model::agent::{Origin, ResolvedInput};

    use super::*;

    const IMPATIENT: Limits = Limits {
        silence: Duration::from_millis(50),
        ..LIMITS
    };

    /// What a download of at most 100 bytes comes to, from a server that answers each call like this and
    /// then says nothing more.
    async fn downloaded(answer: &str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let answer = answer.replace("URL", &url);
        std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // The call fits into one packet.
                let mut call = [0; 1_000];
                assert!(stream.read(&mut call).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
                open.push(stream);
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let opened = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        let input = ResolvedInput {
            path: "file".to_owned(),
            digest: String::new(),
            marks: InputMarks::default(),
            from: Origin::Http(url.clone()),
        };
        let place = Place::new(opened, "file", &input, 100).unwrap();
        let done = download_within(IMPATIENT, url.clone(), place).await;
        done.map_err(|problem| match problem {
            Problem::Lost(text) => format!("lost: {}", text.replace(&url, "URL")),
            Problem::Away(text) | Problem::Failed(text) => text.replace(&url, "URL"),
        })
    }

    #[tokio::test]
    async fn size_silence_and_redirects_are_limited() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length:";
        assert_eq!(downloaded(&format!("{head} 3\r\n\r\nabc")).await, Ok(()));
        let silent = downloaded(&format!("{head} 30\r\n\r\nabc"))
            .await
            .unwrap_err();
        assert!(
            silent.starts_with("URL: it cannot be read: timeout"),
            "{silent}"
        );
        let large = downloaded(&format!("{head} 101\r\n\r\n"))
            .await
            .unwrap_err();
        assert!(large.starts_with("it is larger than 100 bytes"), "{large}");
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(101));
        let endless = downloaded(&endless).await.unwrap_err();
        assert!(
            endless.starts_with("URL: it is larger than 100 bytes"),
            "{endless}"
        );
        // The server answers one call of each connection.
        let circle = "HTTP/1.1 302 Found\r\nLocation: URL\r\nConnection: close\r\n\
                      Content-Length: 0\r\n\r\n";
        let circle = downloaded(circle).await.unwrap_err();
        assert!(circle.contains("redirects"), "{circle}");
        let gone = downloaded("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(gone, Err("lost: URL answered 410".to_owned()));
    }
}

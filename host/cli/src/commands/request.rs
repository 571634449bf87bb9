//! `request`: to a framework's own interface.

use std::io::{Read, Write};

use anyhow::Context;
use proffer_rpc::operator::FrameworkRequest;
use serde_json::json;

use super::connect;
use crate::args::Request;
use crate::failure::Failure;
use crate::json;
use crate::settings::Settings;

/// The contract's limit on a request's body.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) async fn run(
    command: Request,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let Request {
        framework,
        method,
        path,
        body,
        header,
    } = command;
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path.to_owned(), query.to_owned()),
        None => (path, String::new()),
    };
    if !path.starts_with('/') {
        return Err(Failure::Usage(format!("'{path}' is no path: it begins with a slash")).into());
    }
    let headers = header
        .iter()
        .map(|line| read_header(line))
        .collect::<Result<_, _>>()?;
    let body = body.map(|body| read_body(&body)).transpose()?;
    let request = FrameworkRequest {
        framework,
        method: method.to_ascii_uppercase(),
        path,
        query,
        headers,
        body: body.unwrap_or_default().into(),
        principal: principal(),
    };
    let response = connect(settings).await?.request(request).await?;
    if as_json {
        let body = String::from_utf8_lossy(&response.body);
        json::print(&json!({
            "status": response.status, "headers": response.headers, "body": body,
        }));
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(&response.body)
            .context("cannot write the response")?;
        if !response.body.ends_with(b"\n") && !response.body.is_empty() {
            out.write_all(b"\n").context("cannot write the response")?;
        }
    }
    let text = format!("the framework answered with status {}", response.status);
    match response.status {
        200..=399 => Ok(()),
        404 => Err(Failure::NotFound(text).into()),
        401 | 403 => Err(Failure::Denied(text).into()),
        409 => Err(Failure::Conflict(text).into()),
        400..=499 => Err(Failure::Usage(text).into()),
        503 | 504 => Err(Failure::Unreachable(text).into()),
        _ => Err(anyhow::anyhow!(text)),
    }
}

/// Who asks: for the framework's log, not for its trust.
pub(crate) fn principal() -> String {
    std::env::var("USER").unwrap_or_else(|_| "operator".to_owned())
}

fn read_header(line: &str) -> Result<(String, String), Failure> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| Failure::Usage(format!("--header '{line}': wanted NAME: VALUE")))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn read_body(body: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match body.strip_prefix('@') {
        Some(path) => {
            let what = || Failure::Usage(format!("cannot read the body from {path}"));
            let file = std::fs::File::open(path).with_context(what)?;
            file.take(BODY_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
                .with_context(what)?;
        }
        None if body == "-" => {
            let input = std::io::stdin().lock();
            input
                .take(BODY_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?;
        }
        None => bytes.extend_from_slice(body.as_bytes()),
    }
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(Failure::Usage(
            "the body is over 1 MiB, which is all that a framework takes".into(),
        )
        .into());
    }
    Ok(bytes)
}

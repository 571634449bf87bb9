//! Inputs from web servers.

use std::time::Duration;

use super::Problem;
use super::place::Place;

/// To connect and get the first byte.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// For the whole file: the largest input over a slow line.
const ALL_WITHIN: Duration = Duration::from_secs(3_600);

/// Downloads a URL. Redirects are followed; a page that is gone is a lost input.
pub(super) fn download(url: &str, place: Place) -> Result<(), Problem> {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(ANSWER_WITHIN))
        .timeout_recv_response(Some(ANSWER_WITHIN))
        .timeout_global(Some(ALL_WITHIN))
        .build();
    match ureq::Agent::new_with_config(config).get(url).call() {
        Ok(answer) => {
            let (_, body) = answer.into_parts();
            if let Some(bytes) = body.content_length() {
                place.expect(bytes)?;
            }
            Ok(place.copy(body.into_reader())?)
        }
        Err(ureq::Error::StatusCode(status @ (404 | 410))) => {
            Err(Problem::Lost(format!("{url} answered {status}")))
        }
        Err(error) => Err(Problem::Failed(format!("{url}: {error}"))),
    }
}

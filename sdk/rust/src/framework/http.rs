//! Requests and their responses, as in HTTP.

use std::fmt;

use crate::framework::{Request, Response};

/// Why a path or query cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidPath {
    /// What was sent.
    pub text: String,
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not percent-encoded UTF-8: every '%' is followed by two hexadecimal digits",
            self.text
        )
    }
}

impl Request {
    /// The path's segments, decoded: `/jobs/a%20b` is `["jobs", "a b"]`. A slash at the end is
    /// ignored.
    ///
    /// # Errors
    /// The path is not percent-encoded UTF-8.
    pub fn segments(&self) -> Result<Vec<String>, InvalidPath> {
        self.path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| decode(segment, false))
            .collect()
    }

    /// The first value of a name in the query, decoded; `?flag` has the value "".
    ///
    /// # Errors
    /// The query is not percent-encoded UTF-8.
    pub fn query_value(&self, name: &str) -> Result<Option<String>, InvalidPath> {
        for pair in self.query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decode(key, true)? == name {
                return decode(value, true).map(Some);
            }
        }
        Ok(None)
    }

    /// A header's value, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A response with a plain text.
    #[must_use]
    pub fn text(&self, status: u16, text: impl Into<String>) -> Response {
        self.body(
            status,
            "text/plain; charset=utf-8",
            text.into().into_bytes(),
        )
    }

    /// A response with a body of this type.
    #[must_use]
    pub fn body(&self, status: u16, content_type: &str, body: Vec<u8>) -> Response {
        Response {
            request: self.id,
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body,
            topics: Vec::new(),
        }
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    #[cfg(feature = "json")]
    pub fn json_body<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("the body: {error}"))
    }

    /// A response with a value as JSON.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn json<T: serde::Serialize + ?Sized>(&self, status: u16, value: &T) -> Response {
        match serde_json::to_vec(value) {
            Ok(body) => self.body(status, "application/json", body),
            Err(error) => self.text(500, format!("the answer is not JSON: {error}\n")),
        }
    }
}

fn decode(text: &str, plus_is_space: bool) -> Result<String, InvalidPath> {
    let fail = || InvalidPath {
        text: text.to_owned(),
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(fail());
                };
                u8::try_from(high * 16 + low).map_err(|_| fail())?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| fail())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn percent_encoding_is_undone_or_refused() {
        assert_eq!(decode("a%20b%C3%A9", false).unwrap(), "a b\u{e9}");
        assert_eq!(decode("a+b", true).unwrap(), "a b");
        assert_eq!(decode("a+b", false).unwrap(), "a+b");
        for bad in ["%", "%4", "%zz", "%ff"] {
            decode(bad, false).unwrap_err();
        }
    }
}

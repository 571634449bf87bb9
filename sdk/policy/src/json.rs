//! Settings: one flat JSON object of texts, flags and lists of texts. A component that only wants
//! half a dozen settings should not carry a whole JSON library.

/// A setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `"…"`.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// `["…", …]`.
    List(Vec<String>),
}

/// Reads a flat JSON object; an empty text is an empty object.
///
/// # Errors
/// What is wrong, and at which byte.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Setting)>, String> {
    let mut reader = Reader { text, at: 0 };
    let mut settings: Vec<(String, Setting)> = Vec::new();
    reader.space();
    if reader.rest().is_empty() {
        return Ok(settings);
    }
    reader.expect('{')?;
    if !reader.take('}') {
        loop {
            let name = reader.string()?;
            reader.expect(':')?;
            let value = reader.value(&name)?;
            if settings.iter().any(|(other, _)| *other == name) {
                return Err(format!("the setting '{name}' is given twice"));
            }
            settings.push((name, value));
            if reader.take('}') {
                break;
            }
            reader.expect(',')?;
        }
    }
    if !reader.rest().is_empty() {
        return Err(reader.wanted("the end"));
    }
    Ok(settings)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_ascii_start().len();
    }

    /// Takes a mark if it is next, and the space behind it.
    fn take(&mut self, mark: char) -> bool {
        self.space();
        let found = self.rest().starts_with(mark);
        if found {
            self.at += mark.len_utf8();
            self.space();
        }
        found
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        match self.take(mark) {
            true => Ok(()),
            false => Err(self.wanted(&format!("'{mark}'"))),
        }
    }

    fn wanted(&self, what: &str) -> String {
        let found: String = self.rest().chars().take(16).collect();
        format!(
            "the config is not a JSON object of settings: wanted {what} at byte {}, found '{}'",
            self.at,
            found.escape_debug()
        )
    }

    fn value(&mut self, name: &str) -> Result<Setting, String> {
        for (word, flag) in [("true", true), ("false", false)] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                self.space();
                return Ok(Setting::Flag(flag));
            }
        }
        if self.rest().starts_with('"') {
            return self.string().map(Setting::Text);
        }
        if !self.take('[') {
            return Err(self.wanted(&format!(
                "a text, true, false or a list of texts for '{name}'"
            )));
        }
        let mut list = Vec::new();
        if self.take(']') {
            return Ok(Setting::List(list));
        }
        loop {
            list.push(self.string()?);
            if self.take(']') {
                return Ok(Setting::List(list));
            }
            self.expect(',')?;
        }
    }

    fn string(&mut self) -> Result<String, String> {
        if !self.rest().starts_with('"') {
            return Err(self.wanted("a text in quotation marks"));
        }
        let mut string = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((index, char)) = chars.next() {
            match char {
                '"' => {
                    self.at += index + 1;
                    self.space();
                    return Ok(string);
                }
                '\\' => {
                    let escaped = match chars.next() {
                        Some((_, 'n')) => Some('\n'),
                        Some((_, 't')) => Some('\t'),
                        Some((_, same @ ('"' | '\\' | '/'))) => Some(same),
                        Some((_, 'u')) => {
                            let digits: String =
                                chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                            u32::from_str_radix(&digits, 16)
                                .ok()
                                .and_then(char::from_u32)
                        }
                        _ => None,
                    };
                    string.push(escaped.ok_or_else(|| {
                        format!("the config has an escape that is not understood in a text: after '{string}'")
                    })?);
                }
                char => string.push(char),
            }
        }
        Err(self.wanted("a text that ends"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_objects_are_read() {
        assert_eq!(parse("  "), Ok(vec![]));
        assert_eq!(parse("{}"), Ok(vec![]));
        assert_eq!(
            parse(r#" { "a" : "x\"\u0041" , "b":true,"c":[ ], "d":["1","2"] } "#),
            Ok(vec![
                ("a".to_owned(), Setting::Text("x\"A".to_owned())),
                ("b".to_owned(), Setting::Flag(true)),
                ("c".to_owned(), Setting::List(vec![])),
                (
                    "d".to_owned(),
                    Setting::List(vec!["1".to_owned(), "2".to_owned()])
                ),
            ])
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, part) in [
            ("[]", "wanted '{' at byte 0"),
            ("{\"a\"}", "wanted ':' at byte 4"),
            ("{\"a\":7}", "list of texts for 'a'"),
            ("{\"a\":true", "wanted ','"),
            ("{\"a\":\"x", "text that ends"),
            ("{\"a\":\"\\q\"}", "escape"),
            ("{} x", "wanted the end at byte 3"),
            ("{\"a\":true,\"a\":true}", "'a' is given twice"),
            ("{\"é", "text that ends"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

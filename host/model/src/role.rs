//! Role names: slash-separated paths, as in `eng/backend`.

use std::fmt;
use std::sync::Arc;

/// A role's name. `*` is the role that everybody may use and that nothing is reserved to.
///
/// Components are not empty, not `.` or `..`, do not begin with `-`, and hold neither white space
/// nor control characters (Mesos's rules).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(Arc<str>);

/// Why a text is not a role name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRoleName {
    /// The text as given, cut to 64 characters.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for InvalidRoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not a role name: {}", self.text, self.problem)
    }
}

impl std::error::Error for InvalidRoleName {}

impl RoleName {
    /// Longest name, in bytes; it becomes part of store keys.
    pub const LEN_MAX: usize = 255;

    /// Checks the rules above.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidRoleName> {
        let text = text.into();
        match problem_of(&text) {
            None => Ok(Self(text)),
            Some(problem) => Err(InvalidRoleName {
                text: text.chars().filter(|c| !c.is_control()).take(64).collect(),
                problem,
            }),
        }
    }

    /// The role that everybody may use.
    #[must_use]
    pub fn star() -> Self {
        Self(Arc::from("*"))
    }

    /// Before every other in order: where the names of a range begin. It is nobody's.
    #[must_use]
    pub fn least() -> Self {
        Self(Arc::from(""))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The role around this one: `eng` of `eng/backend`; none at the top.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(Arc::from(parent)))
    }

    /// Whether `self` lies strictly below `other`.
    #[must_use]
    pub fn is_strictly_below(&self, other: &Self) -> bool {
        self.0
            .strip_prefix(&*other.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

fn problem_of(text: &str) -> Option<&'static str> {
    if text == "*" {
        return None;
    }
    if text.len() > RoleName::LEN_MAX {
        return Some("it is longer than 255 bytes");
    }
    for component in text.split('/') {
        if component.is_empty() {
            return Some("it has an empty component");
        }
        if component == "." || component == ".." || component == "*" {
            return Some("a component is '.', '..' or '*'");
        }
        if component.starts_with('-') {
            return Some("a component begins with '-'");
        }
        if component
            .chars()
            .any(|c| c.is_whitespace() || c.is_control())
        {
            return Some("it contains white space or a control character");
        }
    }
    None
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_paths() {
        for good in ["*", "eng", "eng/backend", "a.b", "a-b/c"] {
            RoleName::new(good).unwrap();
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "a/..", "-a", "a b", "a\tb", "a/*",
        ] {
            RoleName::new(bad).unwrap_err();
        }
    }

    #[test]
    fn below_is_strict_and_by_component() {
        let role = |text: &str| RoleName::new(text).unwrap();
        assert!(role("eng/dev").is_strictly_below(&role("eng")));
        assert!(!role("eng").is_strictly_below(&role("eng")));
        assert!(!role("english").is_strictly_below(&role("eng")));
        assert_eq!(role("a/b/c").parent(), Some(role("a/b")));
        assert_eq!(role("a").parent(), None);
    }
}

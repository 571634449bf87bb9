//! Whether an agent meets a demand's constraints.

use proffer_codec::{Codec, Input, InvalidBytes};
use proffer_model::{AgentInfo, AttributeValue, Constraint, ConstraintTest};
use regex::{Regex, RegexBuilder};

/// Compiled size of one expression: a pattern from a framework may not cost more memory than this.
const REGEX_SIZE_MAX: usize = 64 * 1024;
/// Longest pattern, in bytes.
const PATTERN_LEN_MAX: usize = 1_024;

/// Constraints, checked and compiled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constraints {
    groups: Vec<Vec<Compiled>>,
}

/// Recorded as they were said, and compiled again.
impl Codec for Constraints {
    fn put(&self, out: &mut Vec<u8>) {
        let groups: Vec<Vec<Constraint>> = self
            .groups
            .iter()
            .map(|group| group.iter().map(Compiled::said).collect())
            .collect();
        groups.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, InvalidBytes> {
        let groups = Vec::<Vec<Constraint>>::take(input)?;
        // Made-up patterns need not compile; only what forms look like is asked of them.
        Ok(Self::new(&groups).unwrap_or_default())
    }
}

impl Compiled {
    fn said(&self) -> Constraint {
        Constraint {
            attribute: self.attribute.clone(),
            test: self.test,
            values: self.values.clone(),
        }
    }
}

#[derive(Clone, Debug)]
struct Compiled {
    attribute: String,
    test: ConstraintTest,
    values: Vec<String>,
    patterns: Vec<Regex>,
}

impl Constraints {
    /// Compiles; the error names the pattern.
    pub(crate) fn new(groups: &[Vec<Constraint>]) -> Result<Self, String> {
        let groups = groups
            .iter()
            .map(|group| group.iter().map(compile).collect())
            .collect::<Result<_, _>>()?;
        Ok(Self { groups })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether at least one group holds, or there is none.
    pub(crate) fn admit(&self, agent: &AgentInfo) -> bool {
        self.groups.is_empty()
            || self
                .groups
                .iter()
                .any(|group| group.iter().all(|constraint| holds(constraint, agent)))
    }
}

/// Whether an agent with these attributes meets constraints, as offers are judged.
///
/// # Errors
/// A pattern that does not compile.
pub fn constraints_admit(
    groups: &[Vec<Constraint>],
    attributes: Vec<proffer_model::Attribute>,
) -> Result<bool, String> {
    let info = AgentInfo {
        hostname: "".into(),
        region: "".into(),
        zone: "".into(),
        attributes,
    };
    Ok(Constraints::new(groups)?.admit(&info))
}

fn compile(constraint: &Constraint) -> Result<Compiled, String> {
    let is_pattern = matches!(
        constraint.test,
        ConstraintTest::Matches | ConstraintTest::NotMatches
    );
    let patterns = if is_pattern {
        constraint
            .values
            .iter()
            .map(|pattern| compile_pattern(pattern))
            .collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    Ok(Compiled {
        attribute: constraint.attribute.clone(),
        test: constraint.test,
        values: constraint.values.clone(),
        patterns,
    })
}

fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_LEN_MAX {
        return Err(format!("a pattern is longer than {PATTERN_LEN_MAX} bytes"));
    }
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(REGEX_SIZE_MAX)
        .build()
        .map_err(|error| format!("the pattern '{pattern}' does not compile: {error}"))
}

/// The text of an attribute, or of hostname, region and zone, which are attributes too.
pub(crate) fn text_of<'a>(agent: &'a AgentInfo, attribute: &str) -> Found<'a> {
    if let Some(found) = agent.attributes.iter().find(|own| own.name == attribute) {
        return match &found.value {
            AttributeValue::Text(text) => Found::Text(text),
            AttributeValue::Scalar(_) | AttributeValue::Ranges(_) => Found::NotText,
        };
    }
    let text = match attribute {
        "hostname" => &agent.hostname,
        "region" => &agent.region,
        "zone" => &agent.zone,
        _ => return Found::Nothing,
    };
    if text.is_empty() {
        Found::Nothing
    } else {
        Found::Text(text)
    }
}

/// What an agent has under an attribute's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Nothing,
    Text(&'a str),
    NotText,
}

/// Text tests on what is not text hold, so that the framework decides itself (Mesos's rule).
fn holds(constraint: &Compiled, agent: &AgentInfo) -> bool {
    let found = text_of(agent, &constraint.attribute);
    match (constraint.test, found) {
        (ConstraintTest::Exists, found) => found != Found::Nothing,
        (ConstraintTest::NotExists, found) => found == Found::Nothing,
        (_, Found::NotText) => true,
        (ConstraintTest::Equals, Found::Text(text)) => {
            constraint.values.iter().any(|value| value == text)
        }
        (ConstraintTest::NotEquals, Found::Text(text)) => {
            constraint.values.iter().all(|value| value != text)
        }
        (ConstraintTest::Matches, Found::Text(text)) => {
            constraint.patterns.iter().any(|p| p.is_match(text))
        }
        (ConstraintTest::NotMatches, Found::Text(text)) => {
            !constraint.patterns.iter().any(|p| p.is_match(text))
        }
        (ConstraintTest::Equals | ConstraintTest::Matches, Found::Nothing) => false,
        (ConstraintTest::NotEquals | ConstraintTest::NotMatches, Found::Nothing) => true,
    }
}

#[cfg(test)]
mod tests {
    use proffer_model::{Amount, Attribute};

    use super::*;

    fn agent() -> AgentInfo {
        let attribute = |name: &str, value| Attribute {
            name: name.to_owned(),
            value,
        };
        AgentInfo {
            hostname: "node7".into(),
            region: "eu".into(),
            zone: "".into(),
            attributes: vec![
                attribute("rack", AttributeValue::Text("r2".to_owned())),
                attribute("level", AttributeValue::Scalar(Amount::ONE)),
            ],
        }
    }

    fn check(attribute: &str, test: ConstraintTest, values: &[&str], expected: bool) {
        let constraint = Constraint {
            attribute: attribute.to_owned(),
            test,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let compiled = Constraints::new(&[vec![constraint.clone()]]).unwrap();
        assert_eq!(compiled.admit(&agent()), expected, "{constraint:?}");
    }

    #[test]
    fn tests_look_at_whole_texts() {
        use ConstraintTest::{Equals, Exists, Matches, NotEquals, NotExists, NotMatches};
        check("rack", Exists, &[], true);
        check("zone", Exists, &[], false);
        check("zone", NotExists, &[], true);
        check("rack", Equals, &["r1", "r2"], true);
        check("rack", NotEquals, &["r1", "r2"], false);
        check("none", NotEquals, &["r1"], true);
        check("none", Equals, &["r1"], false);
        check("hostname", Matches, &["node[0-9]"], true);
        check("hostname", Matches, &["node"], false);
        check("hostname", NotMatches, &["node"], true);
        check("level", Equals, &["x"], true);
    }

    #[test]
    fn patterns_that_would_cost_too_much_are_refused() {
        let bad = |pattern: &str| {
            Constraints::new(&[vec![Constraint {
                attribute: "a".to_owned(),
                test: ConstraintTest::Matches,
                values: vec![pattern.to_owned()],
            }]])
            .unwrap_err()
        };
        bad("(");
        bad("((a{100}){100}){100}");
        bad(&"a".repeat(2_000));
    }
}

//! Published sandboxes: who finished first under a name, and which of them are lost.
//!
//! A binding is a fact of its own. It outlives the task's record, and the agent: an input that matches
//! a name whose sandbox is lost fails, and so no reader silently gets fewer parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::fact::{Effect, Fact, OutputRecord};
use proffer_model::{AgentId, FrameworkId, TaskId};

use crate::launches::is_glob;
use crate::machine::Core;

/// A framework's outputs, by name and by age.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outputs {
    by_name: BTreeMap<String, (u64, OutputRecord)>,
    /// The names by when they were bound: the oldest go first.
    by_age: BTreeMap<u64, String>,
    next: u64,
}

codec_struct!(Outputs {
    by_name,
    by_age,
    next
});

impl Outputs {
    pub(crate) fn get(&self, name: &str) -> Option<&OutputRecord> {
        self.by_name.get(name).map(|(_, output)| output)
    }

    /// In the order in which they were bound.
    pub(crate) fn by_age(&self) -> impl Iterator<Item = &OutputRecord> {
        self.by_age.values().filter_map(|name| self.get(name))
    }

    /// Those whose names a glob matches, by name. Only names that begin as the glob does are looked at.
    pub(crate) fn matching<'a>(
        &'a self,
        glob: &'a str,
    ) -> Result<impl Iterator<Item = &'a OutputRecord>, globset::Error> {
        let matcher = globset::Glob::new(glob)?.compile_matcher();
        let prefix = literal_prefix(glob);
        Ok(self
            .by_name
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(move |(name, _)| name.starts_with(prefix))
            .filter(move |(name, _)| matcher.is_match(name))
            .map(|(_, (_, output))| output))
    }

    /// Binds a name, anew if it was bound, and drops the oldest beyond `max`; how many went.
    pub(crate) fn bind(&mut self, output: OutputRecord, max: usize) -> usize {
        let age = self.next;
        self.next += 1;
        let name = output.name.clone();
        if let Some((before, _)) = self.by_name.insert(name.clone(), (age, output)) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(age, name);
        let mut dropped = 0;
        while self.by_name.len() > max {
            let Some((_, name)) = self.by_age.pop_first() else {
                break;
            };
            self.by_name.remove(&name);
            dropped += 1;
        }
        dropped
    }

    pub(crate) fn on_agent(&self, agent: AgentId) -> bool {
        self.by_name
            .values()
            .any(|(_, output)| output.agent == agent)
    }
}

/// What every name that the glob matches begins with.
fn literal_prefix(glob: &str) -> &str {
    let end = glob.find(['*', '?', '[', '{', '\\']);
    end.and_then(|end| glob.get(..end)).unwrap_or(glob)
}

impl Core {
    /// The first to finish under a name keeps it, unless its agent is away or a fetch from it failed.
    pub(crate) fn publish_output(&mut self, framework: FrameworkId, output: OutputRecord) {
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let replaceable = match fw.outputs.get(&output.name) {
            None => true,
            // Facts say themselves what was bound anew.
            Some(_) if self.replaying => false,
            Some(old) => {
                let agent = self.agents.get(&old.agent);
                old.suspect || !agent.is_some_and(|agent| agent.serves_outputs())
            }
        };
        if replaceable {
            self.bind_output(framework, output);
        }
    }

    /// Whoever is sent a sandbox after this is sent it after the fact.
    fn bind_output(&mut self, framework: FrameworkId, output: OutputRecord) {
        let effect = Effect::OutputBound(Box::new(output));
        self.apply_effect(framework, &effect);
        // A store of an older format has no such facts: there the tasks' ends bind.
        if !self.replaying {
            self.facts.push(Fact::Changed { framework, effect });
        }
    }

    /// Applies a binding; live and in recovery alike.
    pub(crate) fn apply_output(&mut self, framework: FrameworkId, output: &OutputRecord) {
        let max = self.config.outputs_max;
        if let Some(fw) = self.frameworks.get_mut(&framework) {
            let dropped = fw.outputs.bind(output.clone(), max);
            fw.counters.outputs_dropped += dropped as u64;
        }
    }

    /// Outputs that a task could not fetch. `data` names them, one a line; if it names none, all
    /// that the task's inputs match.
    pub(crate) fn suspect_inputs(&mut self, framework: FrameworkId, id: &TaskId, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let named: BTreeSet<&str> = text.lines().collect();
        let Some(fw) = self.frameworks.get(&framework) else {
            return;
        };
        let Some(task) = fw.tasks.get(id) else { return };
        let spec = Arc::clone(&task.spec);
        let mut suspects: BTreeMap<String, OutputRecord> = BTreeMap::new();
        for input in spec.template.inputs.iter().chain(&spec.inputs) {
            let Ok(proffer_model::Source::Output(name, _)) =
                proffer_model::Source::parse(&input.source)
            else {
                continue;
            };
            let mut suspect = |output: &OutputRecord| {
                let by_name =
                    named.contains(output.name.as_str()) || named.contains(output.task.as_str());
                if !output.suspect && (named.is_empty() || by_name) {
                    suspects.insert(output.name.clone(), output.clone());
                }
            };
            if !is_glob(name) {
                fw.outputs.get(name).into_iter().for_each(&mut suspect);
            } else if let Ok(outputs) = fw.outputs.matching(name) {
                outputs.for_each(&mut suspect);
            }
        }
        for mut output in suspects.into_values() {
            output.suspect = true;
            self.bind_output(framework, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proffer_model::LaunchNumber;

    fn output(name: &str, launch: u64) -> OutputRecord {
        OutputRecord {
            name: name.to_owned(),
            task: TaskId::new(format!("t{launch}")).unwrap(),
            launch: LaunchNumber(launch),
            agent: AgentId(1),
            suspect: false,
        }
    }

    fn names<'a>(outputs: impl Iterator<Item = &'a OutputRecord>) -> Vec<&'a str> {
        outputs.map(|output| output.name.as_str()).collect()
    }

    #[test]
    fn the_oldest_binding_goes_first_and_a_new_one_makes_young() {
        let mut outputs = Outputs::default();
        assert_eq!(outputs.bind(output("a", 1), 2), 0);
        assert_eq!(outputs.bind(output("b", 2), 2), 0);
        assert_eq!(outputs.bind(output("a", 3), 2), 0);
        assert_eq!(outputs.bind(output("c", 4), 2), 1);
        assert_eq!(names(outputs.by_age()), ["a", "c"]);
        assert_eq!(outputs.get("a").unwrap().launch, LaunchNumber(3));
    }

    #[test]
    fn a_glob_matches_what_begins_as_it_does() {
        let mut outputs = Outputs::default();
        for name in ["m", "m.1", "m.10", "m.2", "n.1", "l.1", "m*1"] {
            outputs.bind(output(name, 1), 99);
        }
        let matching = |glob: &'static str| names(outputs.matching(glob).unwrap()).join(" ");
        assert_eq!(matching("m.*"), "m.1 m.10 m.2");
        assert_eq!(matching("m.?"), "m.1 m.2");
        assert_eq!(matching("{m,n}.1"), "m.1 n.1");
        assert_eq!(matching("m\\*?"), "m*1");
        assert_eq!(matching("*"), "l.1 m m*1 m.1 m.10 m.2 n.1");
        assert_eq!(matching("z*"), "");
    }
}

//! Published sandboxes: who finished first under a name, and which of them are lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::{AgentId, FrameworkId, LaunchNumber, TaskId};

use crate::machine::Core;

/// A published sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) task: TaskId,
    pub(crate) launch: LaunchNumber,
    pub(crate) agent: AgentId,
    /// A fetch from it failed: a later task that finishes under the name takes its place.
    pub(crate) suspect: bool,
}

codec_struct!(Output {
    task,
    launch,
    agent,
    suspect
});

impl Core {
    /// The first to finish under a name keeps it, unless its agent is away or a fetch from it failed.
    pub(crate) fn publish_output(&mut self, framework: FrameworkId, name: String, output: Output) {
        let replaceable = match self
            .frameworks
            .get(&framework)
            .and_then(|fw| fw.outputs.get(&name))
        {
            None => true,
            Some(old) => {
                let there = self
                    .agents
                    .get(&old.agent)
                    .is_some_and(|agent| self.replaying || agent.serves_outputs());
                old.suspect || !there
            }
        };
        if replaceable && let Some(fw) = self.frameworks.get_mut(&framework) {
            fw.outputs.insert(name, output);
        }
    }

    /// Outputs that a task could not fetch. `data` names them, one a line; if it names none, all
    /// that the task's inputs match.
    pub(crate) fn suspect_inputs(&mut self, framework: FrameworkId, id: &TaskId, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let named: BTreeSet<&str> = text.lines().collect();
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(task) = fw.tasks.get(id) else { return };
        let spec = Arc::clone(&task.spec);
        for input in spec.template.inputs.iter().chain(&spec.inputs) {
            let Ok(proffer_model::Source::Output(glob, _)) =
                proffer_model::Source::parse(&input.source)
            else {
                continue;
            };
            let Ok(glob) = globset::Glob::new(glob) else {
                continue;
            };
            let matcher = glob.compile_matcher();
            for (name, output) in &mut fw.outputs {
                let by_name = named.contains(name.as_str()) || named.contains(output.task.as_str());
                if matcher.is_match(name) && (named.is_empty() || by_name) {
                    output.suspect = true;
                }
            }
        }
    }
}

//! From committed launch to message: where a task's inputs are.

use std::sync::Arc;

use proffer_model::agent::{Launch, Origin, ResolvedInput, SandboxFile, ToAgent};
use proffer_model::{
    AgentId, FrameworkId, LaunchNumber, Reason, Remedy, Source, TaskId, TaskState, code,
};

use crate::accept::inputs_of;
use crate::action::Action;
use crate::framework::Framework;
use crate::machine::Core;

/// Files that the inputs of one group may come to, globs expanded: what an agent takes, too.
const INPUT_FILES_MAX: usize = 100_000;
/// Bytes that they may come to in the message, roughly: half of what a message to an agent may have.
const INPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A file in the message besides its texts, roughly.
const INPUT_FILE_BYTES: usize = 32;

/// What the inputs of one group come to so far. A message that no agent can take would be sent again
/// at each of its registrations.
#[derive(Debug, Default)]
struct Expanded {
    files: usize,
    bytes: usize,
}

impl Expanded {
    fn add(&mut self, texts: usize) -> Result<(), Reason> {
        self.files += 1;
        self.bytes += INPUT_FILE_BYTES + texts;
        if self.files <= INPUT_FILES_MAX && self.bytes <= INPUT_BYTES_MAX {
            return Ok(());
        }
        let text = format!(
            "the inputs come to more than {INPUT_FILES_MAX} files or {} MiB of names: split the task",
            INPUT_BYTES_MAX / 1024 / 1024
        );
        Err(Reason::new(code::LIMIT, Remedy::Mend, text))
    }
}

impl Core {
    /// Sends a group of launches to its agent, if that is connected. Sent again after a
    /// reconnection: the agent runs a number at most once.
    pub(crate) fn send_launches(&mut self, framework: FrameworkId, group: LaunchNumber) {
        let members: Vec<TaskId> = self
            .group_members(framework, group)
            .into_iter()
            .map(|(member, _)| member)
            .collect();
        let mut launches = Vec::new();
        let mut lost = None;
        let mut expanded = Expanded::default();
        for id in &members {
            match self.launch_message(framework, id, &mut expanded) {
                Ok(launch) => launches.push(launch),
                Err(why) => lost = Some(why),
            }
        }
        if let Some(why) = lost {
            for id in members {
                self.decide_task(framework, &id, TaskState::Dropped, why.clone());
            }
            return;
        }
        let connection = members
            .first()
            .and_then(|id| self.task(framework, id))
            .and_then(|task| self.agents.get(&task.agent))
            .and_then(|agent| agent.connection);
        if let Some(connection) = connection {
            self.emit_durable(Action::Send {
                connection,
                message: Box::new(ToAgent::Launch(launches)),
            });
        }
        for id in members {
            self.send_kill(framework, &id);
        }
    }

    fn launch_message(
        &self,
        framework: FrameworkId,
        id: &TaskId,
        expanded: &mut Expanded,
    ) -> Result<Launch, Reason> {
        let unknown = || Reason::new(code::UNKNOWN, Remedy::ChooseAnew, "the task is gone");
        let fw = self.frameworks.get(&framework).ok_or_else(unknown)?;
        let task = fw.tasks.get(id).ok_or_else(unknown)?;
        let mut inputs = Vec::new();
        for input in inputs_of(&task.spec) {
            expanded.add(input.path.len() + input.source.len())?;
            inputs.push(ResolvedInput {
                path: input.path.clone(),
                digest: input.digest.clone(),
                marks: input.marks,
                from: self.origin(fw, &input.source, expanded)?,
            });
        }
        Ok(Launch {
            number: task.launch,
            framework,
            framework_name: Arc::clone(&fw.record.name),
            role: task.role.clone(),
            task: Arc::clone(&task.spec),
            inputs,
        })
    }

    fn origin(
        &self,
        fw: &Framework,
        source: &str,
        expanded: &mut Expanded,
    ) -> Result<Origin, Reason> {
        let lost = |text: String| Reason::new(code::INPUT_LOST, Remedy::ChooseAnew, text);
        match Source::parse(source) {
            Ok(Source::File(path)) => Ok(Origin::File(path.to_owned())),
            Ok(Source::Http(url)) => Ok(Origin::Http(url.to_owned())),
            Ok(Source::Task(id, path)) => {
                let task = TaskId::new(id).ok().and_then(|id| fw.tasks.get(&id));
                let ended = task.filter(|task| task.latest.is_final());
                let task =
                    ended.ok_or_else(|| lost(format!("{source}: there is no such ended task")))?;
                let of = (task.agent, task.launch, &task.spec.id);
                Ok(Origin::Sandbox(self.sandbox_file(of, path, source)?))
            }
            Ok(Source::Output(glob, path)) => {
                self.outputs_matching(fw, (glob, path), source, expanded)
            }
            Ok(Source::Asset(_)) | Err(_) => Err(lost(format!("{source}: cannot be had"))),
        }
    }

    /// One name gives a file; a glob gives a directory. An output that is bound but lost is an
    /// error: a reducer must never silently miss a part.
    fn outputs_matching(
        &self,
        fw: &Framework,
        (glob, path): (&str, &str),
        source: &str,
        expanded: &mut Expanded,
    ) -> Result<Origin, Reason> {
        let lost = |text: String| Reason::new(code::INPUT_LOST, Remedy::ChooseAnew, text);
        if !is_glob(glob) {
            let output = fw
                .outputs
                .get(glob)
                .ok_or_else(|| lost(format!("{source}: there is no such output")))?;
            let of = (output.agent, output.launch, &output.task);
            return Ok(Origin::Sandbox(self.sandbox_file(of, path, source)?));
        }
        let matching = fw
            .outputs
            .matching(glob)
            .map_err(|_| lost(format!("{source}: the glob is malformed")))?;
        let mut files = Vec::new();
        for output in matching {
            let of = (output.agent, output.launch, &output.task);
            let file = self.sandbox_file(of, path, source)?;
            expanded.add(output.name.len() + file.path.len() + file.address.len())?;
            files.push((output.name.clone(), file));
        }
        if files.is_empty() {
            return Err(lost(format!("{source}: no output matches")));
        }
        Ok(Origin::Sandboxes(files))
    }

    fn sandbox_file(
        &self,
        (on, launch, task): (AgentId, LaunchNumber, &TaskId),
        path: &str,
        source: &str,
    ) -> Result<SandboxFile, Reason> {
        let agent = self.agents.get(&on).filter(|agent| agent.serves_outputs());
        let Some(agent) = agent else {
            let text = format!("{source}: {on} of {task} is not connected");
            return Err(Reason::new(code::INPUT_LOST, Remedy::ChooseAnew, text));
        };
        Ok(SandboxFile {
            agent: on,
            address: agent.record.data_address.clone(),
            launch,
            path: path.to_owned(),
        })
    }
}

/// Whether a name in `output:` may stand for several.
pub(crate) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '[', '{'])
}

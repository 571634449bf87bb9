//! What agents and frameworks of a random run do next, right or wrong.

use proffer_core::Event;
use proffer_model::framework::{Act, Command, Event as Told};
use proffer_model::{OfferId, TaskState};

use super::random::{AGENTS, Run};
use super::words::{
    accept_parts, agent_update, decline, input, kill, part, reconcile, respond, task, timer,
    want_as,
};

const SHAPES: [&str; 4] = ["cpus:1;mem:10", "cpus:0.5;mem:1", "", "cpus:2;mem:30"];
const SIZES: [&str; 6] = [
    "cpus:1;mem:10",
    "cpus:0.333;mem:1;ports:[2-3]",
    "cpus:0.1;mem:1",
    "cpus:100;mem:1",
    "mem:0.001",
    "cpus:1;names:{b}",
];

impl Run {
    /// An agent tells something of a launch, in order or out of it, twice or wrong.
    pub(crate) fn agent_speaks(&mut self) {
        let number = self.dice.below(AGENTS);
        let name = format!("a{number}");
        let launches: Vec<u64> = self
            .memory
            .entry(number)
            .or_default()
            .keys()
            .copied()
            .collect();
        let (Some(machine), Some(launch)) =
            (self.cluster.machines.get(&name), self.dice.pick(&launches))
        else {
            return;
        };
        let connection = machine.connection;
        let states = [
            TaskState::Running,
            TaskState::Finished,
            TaskState::Failed,
            TaskState::Killed,
        ];
        let Some(known) = self
            .memory
            .get_mut(&number)
            .and_then(|all| all.get_mut(&launch))
        else {
            return;
        };
        if !self.dice.one_in(4) && !known.3.is_final() {
            known.2 += 1;
            known.3 = self.dice.pick(&states).unwrap();
        }
        let (framework, id, sequence, state) = known.clone();
        let (sequence, state) = match self.dice.below(20) {
            0 => (sequence + 5, TaskState::Running),
            1 => (sequence, TaskState::Killed),
            _ => (sequence.max(1), state),
        };
        let framework = proffer_model::FrameworkId(framework);
        let update = agent_update(launch, framework, &id, (sequence, state));
        self.cluster.event(Event::TaskUpdated {
            connection,
            update: Box::new(update),
        });
    }

    pub(crate) fn framework_steps(&mut self) {
        let waiting: Vec<_> = self.cluster.steps.keys().copied().collect();
        let Some(framework) = self.dice.pick(&waiting) else {
            return;
        };
        let core = &self.cluster.core;
        let view = core
            .frameworks(None, &core.sums())
            .find(|fw| fw.id == framework);
        let name = view.expect("whoever steps exists").name.to_string();
        if self.dice.one_in(8) {
            self.cluster.fail(&name);
            return;
        }
        let batch = self.cluster.batch(&name).to_vec();
        let mut commands = Vec::new();
        for event in &batch {
            self.react(framework.0, event, &mut commands);
        }
        let role = &self.cluster.core.framework_named(&name).unwrap().roles[0]
            .0
            .to_string();
        if self.dice.one_in(2) {
            commands.push(self.some_demand(role));
        }
        if self.dice.one_in(4) {
            commands.push(self.some_command());
        }
        self.cluster.answer(&name, commands);
    }

    fn some_demand(&mut self, role: &str) -> Command {
        let key = self.dice.pick(&["x", "y"]).unwrap();
        let shape = self.dice.pick(&SHAPES).unwrap();
        let count = u32::try_from(self.dice.below(6)).unwrap();
        let gang = if self.dice.one_in(5) { 2 } else { 0 };
        let ports = u32::try_from(self.dice.below(2)).unwrap();
        let fixed = self.dice.one_in(6);
        want_as(key, role, shape, count, |demand| {
            demand.gang = gang;
            if !shape.is_empty() && fixed {
                demand.shape.fixed_ports = "ports:[2-3]"
                    .parse::<proffer_model::Bundle>()
                    .unwrap()
                    .ports;
            } else if !shape.is_empty() {
                demand.shape.ports = ports;
            }
        })
    }

    fn some_command(&mut self) -> Command {
        let any = format!("t{}", self.dice.below(self.tasks + 2));
        match self.dice.below(9) {
            0 => kill(&any),
            1 => reconcile(&[]),
            2 => reconcile(&[&any, "nobody", "a/b"]),
            3 => Command::Suppress(vec![]),
            4 | 5 => Command::Revive(vec![]),
            6 => timer("t", self.dice.below(3_000)),
            7 => Command::ClearDemand(vec!["x".to_owned(), "z".to_owned()]),
            _ => decline(&[self.dice.below(50)], 10),
        }
    }

    fn react(&mut self, framework: u32, event: &Told, commands: &mut Vec<Command>) {
        match event {
            Told::Offers(offers) => {
                for offer in offers {
                    let owner = (framework, offer.agent);
                    let before = *self.offers.entry(offer.id).or_insert(owner);
                    assert_eq!(before, owner, "{} was another offer", offer.id);
                    let id = offer.id.0;
                    match self.dice.below(8) {
                        0 => {}
                        1 => commands.push(decline(&[id], self.dice.clone().below(20_000))),
                        2 => commands.push(Command::Keep(vec![OfferId(id)])),
                        kind => commands.push(self.some_accept(id, kind)),
                    }
                }
            }
            Told::Request(request) if !self.dice.one_in(3) => {
                commands.push(respond(request.id.0, 200))
            }
            Told::Updates(updates) => {
                for update in updates.iter().filter(|update| update.sequence > 0) {
                    let key = (framework, update.task.to_string());
                    assert!(
                        !self.ended.contains(&key),
                        "{} was told an end before",
                        update.task
                    );
                    if update.state.is_final() {
                        self.ended.insert(key);
                    }
                }
            }
            _ => {}
        }
    }

    fn some_accept(&mut self, id: u64, kind: u64) -> Command {
        let tasks = (0..=self.dice.below(2))
            .map(|_| {
                // Now and then an id that was used before.
                self.tasks += u64::from(!self.dice.one_in(15));
                let mut spec = task(&format!("t{}", self.tasks), self.dice.pick(&SIZES).unwrap());
                if self.dice.one_in(4) {
                    spec.output = self.dice.pick(&["m1", "m2"]).unwrap().to_owned();
                }
                if self.dice.one_in(6) {
                    spec.inputs.push(input("output:m*/part"));
                }
                spec
            })
            .collect();
        let act = if kind == 3 {
            Act::LaunchGroup(tasks)
        } else {
            Act::Launch(tasks)
        };
        let ids = match self.dice.below(12) {
            0 => vec![id, id],
            1 => vec![id, 999_999],
            _ => vec![id],
        };
        accept_parts(
            vec![part(&ids, vec![act])],
            kind == 4,
            self.dice.below(5_000),
        )
    }
}

//! The kit keeps the contract's promises, and insists on the framework's part.

use crate::framework::{
    Accept, Command, Context, Demand, Event, Framework, Host, Offer, Request, Shape, Step, Task,
    TaskState, Template, TemplateIndex,
};
use crate::testkit::{Kit, Violation};

/// Does what the last part of a request's path says: with its offers, if it needs some.
struct Puppet {
    seen: Vec<u8>,
}

impl Framework for Puppet {
    fn start(_: &Context, host: &mut Host<'_>) -> Result<Self, String> {
        if host.state().set("in-start", b"").is_ok() {
            return Err("start could write".to_owned());
        }
        Ok(Self {
            seen: host.state().get("seen").unwrap_or_default(),
        })
    }

    fn request(&mut self, step: &mut Step<'_>, request: Request) -> Result<(), String> {
        self.seen.push(b'x');
        step.state().set("seen", &self.seen)?;
        step.host().count("requests", &[], 1);
        match request.path.as_str() {
            "/fail" => return Err("as asked".to_owned()),
            "/timer" => step.set_timer_after("t", 100),
            "/demand" => step.set_demand(Demand::new("d", "nobody", Shape::default(), 1)),
            "/many" => {
                for number in 0..5_000 {
                    step.cancel_timer(format!("t{number}"));
                }
            }
            "/large" => {
                for number in 0..5 {
                    step.state().set(&format!("l{number}"), &[0; 250_000])?;
                }
            }
            "/random" => {
                let drawn = step.host().random();
                step.respond(request.text(200, drawn.to_string()));
                return Ok(());
            }
            _ => {}
        }
        step.respond(request.text(200, self.seen.len().to_string()));
        Ok(())
    }

    fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
        let template = step.template(Template::shell("t", "true"));
        let shape: Shape = "cpus:1;mem:10".parse()?;
        for offer in &offers {
            let Some(piles) = offer.room().take(&shape) else {
                continue;
            };
            let task = |id: &str, template: TemplateIndex| template.task(id, piles.clone());
            match String::from_utf8_lossy(&self.seen).len() {
                0 => step.launch([offer.id], [task("a", template)]),
                1 => step.launch([offer.id + 1], [task("a", template)]),
                2 => step.launch([offer.id], [task("a", TemplateIndex(7))]),
                3 => step.launch([offer.id], [task("a", template), task("a", template)]),
                4 => step.launch([offer.id], [task("a/b", template)]),
                5 => {
                    step.launch([offer.id], [task("a", template)]);
                    step.decline([offer.id], None, "twice");
                }
                6 => {
                    let two: [Task; 2] = [task("a", template), task("b", template)];
                    step.accept(Accept::launch([offer.id], two));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn started() -> Kit<Puppet> {
    let mut kit = Kit::new();
    kit.add_agent("agent1", "cpus:1.5;mem:100");
    kit.start();
    kit
}

/// A kit whose framework has seen so many requests, and what it does with an offer.
fn offered(requests: usize) -> (Kit<Puppet>, Result<super::Outcome, Violation>) {
    let mut kit = started();
    for _ in 0..requests {
        kit.request("GET", "/", b"");
    }
    let piles = vec!["cpus:1.5;mem:100".parse().unwrap()];
    let offer = kit.new_offer(1, piles, String::new());
    let outcome = kit.try_step(vec![Event::Offers(vec![offer])]);
    (kit, outcome)
}

#[test]
fn a_failed_step_leaves_no_trace_and_an_instance_never_lasts() {
    let mut kit = started();
    kit.request("GET", "/", b"");
    let request = kit.new_request("GET", "/fail", b"");
    let failed = kit.try_step(vec![Event::Request(request)]);
    assert_eq!(failed, Err(Violation::Failed("as asked".to_owned())));
    assert_eq!(*kit.state()["seen"], *b"x");
    assert_eq!(kit.metric("requests"), 1.0);
    assert_eq!(kit.request("GET", "/", b"").body, b"2");
}

#[test]
fn a_step_that_is_tried_again_draws_the_same() {
    let draw = |kit: &mut Kit<Puppet>| kit.request("GET", "/random", b"").body;
    let (mut one, mut other) = (started(), started());
    let first = draw(&mut one);
    assert_eq!(first, draw(&mut other));
    assert_ne!(first, draw(&mut one));
}

#[test]
fn timers_fire_once_when_they_are_due() {
    let mut kit = started();
    kit.request("GET", "/timer", b"");
    assert_eq!(kit.advance(99), None);
    assert!(kit.advance(1).is_some());
    assert_eq!(kit.advance(1_000), None);
}

#[test]
fn what_the_contract_forbids_is_a_violation() {
    for (requests, message) in [
        (1, "offer 2 is named, and it is not in this batch"),
        (2, "task 'a': there is no template 7"),
        (3, "task 'a': there is a task of this id already"),
        (4, "task 'a/b': 'a/b' is not a task id: it contains a slash"),
        (5, "offer 1 is named, and it is settled already"),
        (6, "task 'b': its pile"),
    ] {
        let (_, outcome) = offered(requests);
        let text = outcome.unwrap_err().to_string();
        assert!(text.starts_with(message), "{requests}: {text}");
    }
    for (path, message) in [
        ("/demand", "demand 'd': 'nobody' is not one of"),
        ("/many", "the answer has 5001 commands"),
        ("/large", "the step failed: state: the step writes more"),
    ] {
        let mut kit = started();
        let request = kit.new_request("GET", path, b"");
        let outcome = kit.try_step(vec![Event::Request(request)]);
        let text = outcome.unwrap_err().to_string();
        assert!(text.starts_with(message), "{path}: {text}");
    }
}

#[test]
fn launched_tasks_hold_what_they_took_until_they_end() {
    let (mut kit, outcome) = offered(0);
    assert!(matches!(
        outcome.unwrap().commands.as_slice(),
        [Command::Accept(_)]
    ));
    assert_eq!(kit.running(), ["a"]);
    assert_eq!(kit.task("a").unwrap().hostname, "agent1");
    kit.update("a", TaskState::Finished);
    assert!(kit.running().is_empty());
}

#[test]
fn an_offer_that_nobody_names_is_unsettled() {
    let (_, outcome) = offered(7);
    assert_eq!(outcome.unwrap().unsettled, [1]);
}

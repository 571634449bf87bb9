//! What a framework leaves when it is removed: reservations and volumes that are kept, released or wiped.

use proffer_core::{Event, FrameworkChange, Left, Reply, ReservationChange};
use proffer_model::fact::{FrameworkStanding, ReservationFate};
use proffer_model::framework::{Command, Finish};
use proffer_model::{Marks, Resources, RoleName, TaskState, Terms};

use super::cluster::Cluster;
use super::words::{accept, task, want_as};

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

/// Reserved at run time, to the last of these roles.
fn reserved(roles: &[&str], volume: &str, resources: &str) -> Resources {
    let terms = Terms {
        reserved: roles.iter().map(|name| role(name)).collect(),
        volume: volume.to_owned(),
        marks: Marks {
            dynamic: true,
            ..Marks::default()
        },
        ..Terms::default()
    };
    Resources::pile(terms, resources.parse().unwrap())
}

impl Cluster {
    fn reserve(&mut self, agent: &str, resources: Resources) {
        let (ticket, agent) = (self.ticket(), self.agent_id(agent));
        self.event(Event::ReservationAsked {
            ticket,
            agent,
            resources,
            change: ReservationChange::Reserve,
        });
        assert_eq!(self.replies[&ticket], Reply::Done);
    }

    /// An agent of 4 cpus, of which 1 is reserved to `eng`, and `f` in that role with nothing running.
    fn with_reservation() -> Self {
        let mut cluster = Self::new();
        cluster.agent("a1", "cpus:4;mem:100");
        cluster.framework("f", "eng");
        cluster.reserve("a1", reserved(&["eng"], "", "cpus:1"));
        cluster
    }

    /// The framework runs `t` on what is reserved to its role.
    fn runs_on(&mut self, name: &str, resources: Resources) {
        self.command(name, vec![want_as("d", "eng", "", 1, |_| {})]);
        let open = self.core.offers(None);
        let own = open.filter(|offer| *offer.framework == *name);
        let offers: Vec<u64> = own.map(|offer| offer.id.0).collect();
        let mut spec = task("t", "");
        spec.resources = resources;
        let clear = Command::ClearDemand(vec!["d".to_owned()]);
        self.answer(name, vec![accept(&offers, vec![spec], 0), clear]);
        self.update("a1", "t", 1, TaskState::Running);
        self.answer(name, vec![]);
    }

    /// What every agent has, after a restart from what is durable too.
    fn totals(&mut self) -> Vec<String> {
        let of = |cluster: &Self| -> Vec<String> {
            let agents = cluster.core.agents(None);
            agents.map(|agent| agent.total.to_string()).collect()
        };
        let live = of(self);
        let config = self.config.clone();
        let now = proffer_model::Timestamp(self.now);
        let again = proffer_core::Core::recover(config, self.durable_facts(), now).unwrap();
        let recovered: Vec<String> = (again.agents(None))
            .map(|agent| agent.total.to_string())
            .collect();
        assert_eq!(live, recovered, "facts tell otherwise");
        live
    }

    fn refusal(&mut self, name: &str, fate: ReservationFate) -> String {
        let ticket = self.remove_with(name, fate);
        match &self.replies[&ticket] {
            Reply::Refused(why) => why.text.clone(),
            reply => panic!("{reply:?}"),
        }
    }

    fn becomes(&self, name: &str, fate: ReservationFate) -> Vec<(String, Left)> {
        let left = self.core.left_behind(self.framework_id(name), fate);
        left.map(|left| (left.resources.to_string(), left.becomes))
            .collect()
    }
}

#[test]
fn reservations_stay_with_their_role_unless_they_are_to_be_released() {
    let mut cluster = Cluster::with_reservation();
    cluster.remove_with("f", ReservationFate::Keep);
    assert!(cluster.core.framework_named("f").is_none());
    assert_eq!(
        cluster.totals(),
        ["cpus:3;mem:100 + cpus:1 reserved to eng"]
    );

    let mut cluster = Cluster::with_reservation();
    assert_eq!(
        cluster.becomes("f", ReservationFate::Release),
        [("cpus:1 reserved to eng".to_owned(), Left::Released)]
    );
    cluster.remove_with("f", ReservationFate::Release);
    assert!(cluster.core.framework_named("f").is_none());
    assert_eq!(cluster.totals(), ["cpus:4;mem:100"]);
    assert_eq!(cluster.free("a1"), "cpus:4;mem:100");
}

#[test]
fn what_its_tasks_hold_is_released_when_the_last_has_ended_over_a_restart_too() {
    let mut cluster = Cluster::with_reservation();
    cluster.runs_on("f", reserved(&["eng"], "", "cpus:1"));
    cluster.remove_with("f", ReservationFate::Release);
    assert!(matches!(
        cluster.standing("f"),
        FrameworkStanding::Removing(_)
    ));
    assert_eq!(
        cluster.totals(),
        ["cpus:3;mem:100 + cpus:1 reserved to eng"]
    );
    let launch = cluster.launch_of("f", "t");
    cluster.restart();
    cluster.reconnect("a1", &[(launch, "f", "t", TaskState::Running)]);
    assert!(cluster.core.framework_named("f").is_some());
    cluster.update("a1", "t", 2, TaskState::Killed);
    assert!(cluster.core.framework_named("f").is_none());
    assert_eq!(cluster.totals(), ["cpus:4;mem:100"]);
}

#[test]
fn what_is_reserved_to_a_role_that_others_are_in_or_below_stays() {
    for other in ["eng", "eng/dev"] {
        let mut cluster = Cluster::with_reservation();
        cluster.framework("g", other);
        assert_eq!(
            cluster.becomes("f", ReservationFate::Wipe),
            [("cpus:1 reserved to eng".to_owned(), Left::Kept)]
        );
        cluster.remove_with("f", ReservationFate::Wipe);
        assert!(cluster.core.framework_named("f").is_none());
        assert_eq!(
            cluster.totals(),
            ["cpus:3;mem:100 + cpus:1 reserved to eng"]
        );
    }
    // A refined reservation goes back to the role that it was refined from.
    let mut cluster = Cluster::with_reservation();
    cluster.framework("g", "eng/dev");
    cluster.reserve("a1", reserved(&["eng", "eng/dev"], "", "cpus:1"));
    cluster.remove_with("g", ReservationFate::Release);
    assert_eq!(
        cluster.totals(),
        ["cpus:3;mem:100 + cpus:1 reserved to eng"]
    );
}

#[test]
fn a_volume_is_not_released_but_wiped_and_what_agents_were_set_up_with_is_reserved_still() {
    let with_volume = || {
        let mut cluster = Cluster::new();
        cluster.agent_with("a1", "cpus:4;disk:10", |registration| {
            registration.special = reserved(&["eng"], "data", "disk:5");
            let set_up = Terms {
                reserved: vec![role("eng")],
                volume: "more".to_owned(),
                ..Terms::default()
            };
            registration
                .special
                .add_pile(&set_up, &"disk:7".parse().unwrap());
        });
        cluster.framework("f", "eng");
        cluster
    };
    let mut cluster = with_volume();
    let before = cluster.totals();
    let refused = cluster.refusal("f", ReservationFate::Release);
    assert!(
        refused.ends_with("holds data: keep the reservations, or wipe them"),
        "{refused}"
    );
    assert_eq!(cluster.standing("f"), FrameworkStanding::Active);
    assert_eq!(cluster.totals(), before);

    let wiped = cluster.becomes("f", ReservationFate::Wipe);
    assert!(wiped.iter().all(|(_, becomes)| *becomes == Left::Wiped) && wiped.len() == 2);
    cluster.remove_with("f", ReservationFate::Wipe);
    assert_eq!(
        cluster.totals(),
        ["cpus:4;disk:15 + disk:7 reserved to eng"]
    );
}

#[test]
fn nothing_is_removed_while_anothers_task_uses_what_is_to_go() {
    let mut cluster = Cluster::with_reservation();
    cluster.framework("g", "eng");
    cluster.runs_on("g", reserved(&["eng"], "", "cpus:0.5"));
    // It leaves the role, and keeps what its task holds.
    let ticket = cluster.ticket();
    let change = FrameworkChange {
        roles: Some(vec![RoleName::star()]),
        ..FrameworkChange::default()
    };
    cluster.event(Event::FrameworkChangeAsked {
        ticket,
        name: "g".to_owned(),
        change: Box::new(change),
    });
    for fate in [ReservationFate::Release, ReservationFate::Wipe] {
        let refused = cluster.refusal("f", fate);
        assert_eq!(
            refused,
            "g uses some of cpus:1 reserved to eng on agent-0: end its tasks there first"
        );
        assert_eq!(cluster.standing("f"), FrameworkStanding::Active);
    }
    cluster.update("a1", "t", 2, TaskState::Finished);
    cluster.answer("g", vec![]);
    cluster.remove_with("f", ReservationFate::Wipe);
    assert_eq!(cluster.totals(), ["cpus:4;mem:100"]);
}

#[test]
fn nobody_comes_into_a_role_whose_reservations_are_going() {
    let mut cluster = Cluster::with_reservation();
    cluster.framework("h", "other");
    cluster.runs_on("f", reserved(&["eng"], "", "cpus:1"));
    cluster.remove_with("f", ReservationFate::Release);
    cluster.add("g", "eng/dev");
    assert!(cluster.core.framework_named("g").is_none());
    let ticket = cluster.ticket();
    let change = FrameworkChange {
        roles: Some(vec![role("eng")]),
        ..FrameworkChange::default()
    };
    cluster.event(Event::FrameworkChangeAsked {
        ticket,
        name: "h".to_owned(),
        change: Box::new(change),
    });
    assert!(
        matches!(&cluster.replies[&ticket], Reply::Refused(why)
            if why.text == "f is being removed, and what is reserved to eng with it: wait until it is gone"),
        "{:?}",
        cluster.replies[&ticket]
    );
    // An operator who thinks better of it may keep them after all.
    cluster.remove_with("f", ReservationFate::Keep);
    cluster.framework("g", "eng/dev");
    cluster.update("a1", "t", 2, TaskState::Killed);
    assert_eq!(
        cluster.totals(),
        ["cpus:3;mem:100 + cpus:1 reserved to eng"]
    );
}

#[test]
fn a_framework_that_finishes_may_let_its_reservations_go() {
    for (release, total) in [
        (true, "cpus:4;mem:100"),
        (false, "cpus:3;mem:100 + cpus:1 reserved to eng"),
    ] {
        let mut cluster = Cluster::with_reservation();
        let finish = Finish {
            text: "done".to_owned(),
            kill_tasks: true,
            release,
        };
        cluster.command("f", vec![Command::Finish(finish)]);
        assert!(cluster.core.framework_named("f").is_none());
        assert_eq!(cluster.totals(), [total]);
    }
}

//! A policy that misbehaves costs a cycle: a fault with a reason, and no instance until it is
//! configured anew.

use proffer_model::Timestamp;
use proffer_model::policy::{
    Agent, Changes, ChangesPart, Client, ClientMarks, Cycle, NONE, Question, Section, Totals,
};
use proffer_plugin::{
    Blame, Call, Kind, PluginFault, PolicyHandle, PolicyLimits, PolicyOutcome, TimeBudget,
};

use crate::guests;

struct Case {
    handle: PolicyHandle,
}

impl Case {
    async fn new(order: &str) -> Option<Self> {
        let loaded = guests::loaded(Kind::Policy)?;
        let (handle, feeds) = guests::host()
            .spawn_policy(loaded, limits(), order)
            .await
            .unwrap();
        assert!(feeds.demands && !feeds.tasks);
        Some(Self { handle })
    }

    async fn cycle(&self) -> PolicyOutcome {
        self.handle.cycle(vec![snapshot()], cycle()).await
    }

    async fn fault(&self) -> PluginFault {
        self.cycle().await.result.unwrap_err()
    }
}

/// A snapshot has a budget of its own, here one that a test can wait for.
fn limits() -> PolicyLimits {
    let mut limits = PolicyLimits::default();
    limits.snapshot.cpu = limits.cycle.cpu * 2;
    limits
}

fn snapshot() -> Changes {
    let agent = |handle| Agent {
        handle,
        name: format!("agent-{handle}"),
        region: String::new(),
        zone: String::new(),
        active: true,
        allowed: true,
        has_gpus: false,
        down: None,
    };
    Changes {
        part: ChangesPart::SnapshotLast,
        agents: (0..3).map(agent).collect(),
        clients: vec![Client {
            handle: 5,
            framework: 1,
            name: "f".to_owned(),
            role: 0,
            marks: ClientMarks::default(),
            mask: 0,
            least: None,
        }],
        totals: Totals {
            agent: vec![0, 1, 2],
            terms: vec![0; 3],
            kind: vec![0; 3],
            total: vec![4_000; 3],
        },
        ..Changes::default()
    }
}

fn cycle() -> Cycle {
    Cycle {
        number: 1,
        now: Timestamp(1),
        seed: 1,
        agents: None,
        grants_max: 1_000,
    }
}

#[tokio::test]
async fn a_good_policy_proposes_from_what_it_was_fed() {
    let Some(case) = Case::new("whole").await else {
        return;
    };
    let outcome = case.cycle().await;
    let proposal = outcome.result.unwrap();
    assert_eq!(proposal.grants.agent, [0, 1, 2]);
    assert_eq!(proposal.grants.client, [5; 3]);
    assert!(outcome.memory_bytes > 0);
    let findings = case
        .handle
        .explain(Question {
            client: 5,
            demand: NONE,
            agents: vec![2],
        })
        .await
        .unwrap();
    assert_eq!(findings[0].why.code, "turn");
    assert_eq!(case.handle.places().await.unwrap(), []);
    let carried = case.handle.carry().await.unwrap();
    assert_eq!(carried[0].data, [7; 3]);
    assert_eq!(case.handle.adopt(carried).await.unwrap(), ["usage"]);
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_budget() {
    for (order, call, budget) in [
        ("spin", Call::Decide, limits().cycle),
        ("apply-spin", Call::Apply, limits().snapshot),
    ] {
        let Some(case) = Case::new(order).await else {
            return;
        };
        let budget = TimeBudget::Cpu(budget.cpu);
        assert_eq!(case.fault().await, PluginFault::OutOfTime { call, budget });
        // Its picture went with the instance: it must be configured and fed anew.
        let next = case
            .handle
            .cycle(Vec::new(), cycle())
            .await
            .result
            .unwrap_err();
        assert_eq!(next, PluginFault::NoInstance { call: Call::Apply });
        assert_eq!(next.blame(), Blame::Caller);
        case.handle.configure("whole").await.unwrap();
        assert_eq!(case.cycle().await.result.unwrap().grants.len(), 3);
    }
}

#[tokio::test]
async fn memory_traps_and_floods_are_contained() {
    for (order, code) in [
        ("memory", "out-of-memory"),
        ("apply-trap", "trapped"),
        ("trap 1", "trapped"),
    ] {
        let Some(case) = Case::new(order).await else {
            return;
        };
        let fault = case.fault().await;
        // Filling its memory may take longer than a decision may.
        let out_of_time = order == "memory" && fault.code() == "out-of-time";
        assert!(out_of_time || fault.code() == code, "{order}: {fault}");
    }
    let Some(case) = Case::new("flood").await else {
        return;
    };
    case.cycle().await;
    assert!(case.handle.logs().dropped > 0);
    assert!(case.handle.logs().lines.len() <= 256);
}

#[tokio::test]
async fn columns_of_unequal_length_break_the_contract() {
    let Some(case) = Case::new("uneven").await else {
        return;
    };
    assert_eq!(
        case.fault().await.to_string(),
        "decide broke the contract: the grants' column 'agent' has 1 rows and 'client' has 0"
    );
}

#[tokio::test]
async fn a_million_grants_are_refused() {
    let Some(case) = Case::new("million").await else {
        return;
    };
    let fault = case.fault().await;
    assert!(
        matches!(fault.code(), "protocol" | "out-of-time"),
        "{fault}"
    );
    assert!(fault.is_the_plugins());
}

#[tokio::test]
async fn nonsense_of_the_right_shape_is_the_cores_to_judge() {
    for (order, grants, reclaims) in [("unknown", 1, 0), ("over", 3, 0), ("reclaim-all", 0, 3)] {
        let Some(case) = Case::new(order).await else {
            return;
        };
        let proposal = case.cycle().await.result.unwrap();
        assert_eq!(
            (proposal.grants.len(), proposal.reclaims.len()),
            (grants, reclaims),
            "{order}"
        );
    }
}

#[tokio::test]
async fn a_refused_configuration_leaves_the_old_one() {
    let Some(case) = Case::new("whole").await else {
        return;
    };
    case.cycle().await.result.unwrap();
    let refused = case.handle.configure("configure-refuse").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "configure returned an error: I do not like this configuration"
    );
    let kept = case.handle.cycle(Vec::new(), cycle()).await;
    assert_eq!(kept.result.unwrap().grants.len(), 3);
    let fresh = guests::host()
        .spawn_policy(
            guests::loaded(Kind::Policy).unwrap(),
            PolicyLimits::default(),
            "configure-spin",
        )
        .await;
    assert_eq!(fresh.unwrap_err().code(), "out-of-time");
}

#[tokio::test]
async fn what_it_says_when_asked_is_bounded() {
    let Some(case) = Case::new("explain-more").await else {
        return;
    };
    let question = Question {
        client: 0,
        demand: NONE,
        agents: vec![1],
    };
    let fault = case.handle.explain(question).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "explain broke the contract: 2 findings on 1 agents"
    );
    let Some(case) = Case::new("carry-huge").await else {
        return;
    };
    assert_eq!(
        case.handle.carry().await.unwrap_err().code(),
        "answer-too-large"
    );
    let Some(case) = Case::new("adopt-refuse").await else {
        return;
    };
    case.cycle().await.result.unwrap();
    let section = Section {
        name: "usage".to_owned(),
        version: 1,
        data: Vec::new(),
    };
    assert_eq!(
        case.handle.adopt(vec![section]).await.unwrap_err().code(),
        "refused"
    );
    // A cold start, not a failed swap.
    case.cycle().await.result.unwrap();
}

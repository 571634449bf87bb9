//! The core's views as operators see them.

use std::collections::BTreeMap;

use proffer_core::{
    AgentView, Core, CoreConfig, Counters, DemandFindings, FrameworkView, GoneView, Left,
    OfferView, Sums, TaskView, TenantView, WouldTake,
};
use proffer_model::fact::{FrameworkStanding, ReservationFate};
use proffer_model::framework::Standing;
use proffer_model::{AgentId, AgentInfo, Bundle, Reason, Resources, RoleName};
use proffer_plugin::FrameworkLimits;
use proffer_rpc::operator as rpc;
use proffer_rpc::operator::{Answer, OperatorError, PAGE_SIZE_MAX, Page, Paged};

use super::{About, no_framework, roles, text_page};
use crate::clock::Clock;
use crate::usage::share_milli;

mod policies;

pub(super) use policies::policy;

pub(super) fn status(core: &Core, sums: &Sums, about: &About, clock: Clock) -> rpc::Status {
    let pool = core.pool_with(sums);
    let mut offers = rpc::OfferCounts::default();
    let mut ended = 0;
    let mut frameworks = 0;
    for (_, ended_tasks, counters) in core.framework_counters() {
        let counts = offer_counts(counters);
        offers.made += counts.made;
        offers.accepted += counts.accepted;
        offers.declined += counts.declined;
        offers.expired += counts.expired;
        offers.rescinded += counts.rescinded;
        ended += ended_tasks as u64;
        frameworks += 1;
    }
    rpc::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        contract: proffer_plugin::CONTRACT_VERSION.to_owned(),
        cluster: about.cluster.clone(),
        started: clock.started(),
        // What it is held against are the core's times, which may be ahead of this host's clock.
        now: clock.now().max(core.now()),
        http_address: about.http_address.clone(),
        agents: count(pool.agents),
        agents_active: count(pool.agents_active),
        frameworks,
        tasks_active: pool.tasks as u64,
        tasks_ended: ended,
        pool: pool.total,
        used: pool.used,
        offered: pool.offered,
        cycles: core.policy().cycles,
        offers,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Agents that are there or may return, and those that are gone, by id.
pub(super) fn agents_and_gone(
    core: &Core,
    after: Option<AgentId>,
) -> impl Iterator<Item = rpc::Agent> {
    let mut there = core.agents(after).map(agent).peekable();
    let mut gone = core.gone_agents(after).map(gone_agent).peekable();
    std::iter::from_fn(move || match (there.peek(), gone.peek()) {
        (Some(one), Some(other)) if other.id < one.id => gone.next(),
        (None, _) => gone.next(),
        _ => there.next(),
    })
}

fn gone_agent(view: GoneView) -> rpc::Agent {
    rpc::Agent {
        id: view.id,
        state: rpc::AgentState::Gone,
        since: Some(view.since),
        info: AgentInfo {
            hostname: view.hostname.as_str().into(),
            region: "".into(),
            zone: "".into(),
            attributes: Vec::new(),
        },
        used: Bundle::default(),
        offered: Bundle::default(),
        total: Bundle::default(),
        tasks: 0,
        data_address: String::new(),
        gone_at: None,
    }
}

fn agent(view: AgentView) -> rpc::Agent {
    let total = view.total.total();
    rpc::Agent {
        id: view.id,
        state: match (view.active, view.standing) {
            (true, _) => rpc::AgentState::Active,
            (false, Standing::Unreachable) => rpc::AgentState::Unreachable,
            (false, Standing::Gone) => rpc::AgentState::Gone,
            (false, Standing::Disconnected | Standing::Returned) => rpc::AgentState::Disconnected,
        },
        since: Some(view.since),
        info: (*view.info).clone(),
        used: view.used,
        offered: view.offered,
        total,
        tasks: count(view.tasks),
        data_address: view.data_address,
        gone_at: view.gone_at,
    }
}

/// Limits by their names: those of the component that runs, if one does, and the host's.
pub(super) fn limits(component: Option<FrameworkLimits>, core: &CoreConfig) -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(component) = component {
        let memory = component.memory_bytes;
        limits.push(format!("memory-bytes={memory}"));
        limits.push(format!("state-bytes={}", component.state_bytes));
        limits.push(format!("step-cpu-ms={}", component.step.cpu.as_millis()));
        limits.push(format!("start-cpu-ms={}", component.start.cpu.as_millis()));
    }
    limits.extend([
        format!("batch-rows={}", core.batch_rows_max),
        format!("demands={}", core.demands_max),
        format!("ended-tasks={}", core.ended_tasks_max),
        format!("outputs={}", core.outputs_max),
        format!("requests-waiting={}", core.requests_waiting_max),
        format!("step-failures={}", core.step_failures_max),
        format!("tasks={}", core.tasks_max),
        format!("timers={}", core.timers_max),
    ]);
    limits
}

/// What becomes of reservations, as the core has it.
pub(super) fn fate(fate: rpc::ReservationFate) -> ReservationFate {
    match fate {
        rpc::ReservationFate::Keep => ReservationFate::Keep,
        rpc::ReservationFate::Release => ReservationFate::Release,
        rpc::ReservationFate::Wipe => ReservationFate::Wipe,
    }
}

/// What a removal would end, and what would be left.
pub(super) fn removal_plan(
    core: &Core,
    view: &FrameworkView,
    fate: ReservationFate,
) -> rpc::RemovalPlan {
    let refused = core.release_refused(view.id, fate);
    let mut plan = rpc::RemovalPlan {
        tasks_active: 0,
        tasks_away: 0,
        tasks: Vec::new(),
        kept: 0,
        released: 0,
        wiped: 0,
        left: Vec::new(),
        refused: refused.map(|why| why.text).unwrap_or_default(),
    };
    for left in core.left_behind(view.id, fate) {
        let (becomes, count) = match left.becomes {
            Left::Kept => (rpc::Left::Kept, &mut plan.kept),
            Left::Released => (rpc::Left::Released, &mut plan.released),
            Left::Wiped => (rpc::Left::Wiped, &mut plan.wiped),
        };
        *count += 1;
        if plan.left.len() < PAGE_SIZE_MAX as usize {
            let agent = core.agent_named(&left.agent.to_string());
            plan.left.push(rpc::LeftBehind {
                agent: left.agent,
                hostname: agent.map_or_else(String::new, |agent| agent.info.hostname.to_string()),
                resources: left.resources,
                shared_role: !left.own,
                becomes,
            });
        }
    }
    let active = |id: AgentId| core.agent_named(&id.to_string()).is_some_and(|a| a.active);
    for live in core.live_tasks(view.id) {
        plan.tasks_active += 1;
        plan.tasks_away += u64::from(!active(live.agent));
        if plan.tasks.len() < PAGE_SIZE_MAX as usize {
            plan.tasks.push(task(live));
        }
    }
    plan
}

fn offer_counts(counters: &Counters) -> rpc::OfferCounts {
    rpc::OfferCounts {
        made: counters.offers_made,
        accepted: counters.offers_accepted,
        declined: counters.offers_declined,
        expired: counters.offers_expired,
        rescinded: counters.offers_rescinded,
    }
}

pub(super) fn framework(view: &FrameworkView, total: &Bundle) -> rpc::Framework {
    let (state, why) = match &view.standing {
        FrameworkStanding::Active => (rpc::FrameworkState::Active, None),
        FrameworkStanding::Quarantined(why) => {
            (rpc::FrameworkState::Quarantined, Some(why.clone()))
        }
        FrameworkStanding::Removing(why) => (rpc::FrameworkState::Removing, Some(why.clone())),
    };
    rpc::Framework {
        id: view.id,
        name: view.name.to_string(),
        version: view.version.clone(),
        digest: view.digest.clone(),
        roles: view.roles.iter().map(|(role, _)| role.clone()).collect(),
        state,
        why,
        tasks_active: view.tasks.0 as u64,
        tasks_ended: view.tasks.1 as u64,
        used: view.used.clone(),
        share_milli: share_milli(&view.used, total),
        offers: offer_counts(&view.counters),
    }
}

pub(super) fn framework_detail(
    core: &Core,
    view: FrameworkView,
    limits: Vec<String>,
) -> rpc::FrameworkDetail {
    let demands = view.demands.iter().map(|(demand, since, _)| {
        let mut shape = demand.shape.resources.clone();
        let ports = Bundle {
            ports: demand.shape.fixed_ports.clone(),
            ..Bundle::default()
        };
        shape.add(&Resources::plain(ports));
        rpc::DemandRow {
            key: demand.key.clone(),
            role: demand.role.clone(),
            shape,
            count: demand.count,
            since: *since,
        }
    });
    rpc::FrameworkDetail {
        demands: demands.collect(),
        suppressed: view
            .roles
            .iter()
            .filter(|(_, off)| *off)
            .map(|(role, _)| role.to_string())
            .collect(),
        config: view.config.clone(),
        steps: view.step.0,
        steps_failed: view.counters.steps_failed,
        last_fault: view.last_fault.clone(),
        limits,
        failing: view.blamed.as_ref().map(|event| rpc::FailingEvent {
            id: event.id.clone(),
            what: event.what.clone(),
        }),
        upgrading: view.upgrading.clone().unwrap_or_default(),
        last_upgrade: view
            .last_upgrade
            .as_ref()
            .map(|upgrade| rpc::UpgradeOutcome {
                from: upgrade.from.clone(),
                version: upgrade.version.clone(),
                digest: upgrade.digest.clone(),
                at: upgrade.at,
                refused: upgrade.refused.clone(),
            }),
        skipped: view
            .skipped
            .iter()
            .map(|event| rpc::SkippedEvent {
                id: event.id.clone(),
                what: event.what.clone(),
                at: event.at,
            })
            .collect(),
        framework: framework(&view, &core.pool_total()),
    }
}

pub(super) fn task(view: TaskView) -> rpc::Task {
    rpc::Task {
        framework: view.framework.to_string(),
        id: view.id,
        name: view.template,
        state: view.state,
        why: Some(view.why),
        exit: view.exit,
        agent: view.agent,
        hostname: view.hostname.to_string(),
        role: view.role,
        resources: view.resources,
        launch: view.launch,
        launched: view.launched_at,
        started: view.running_at,
        ended: view.ended_at,
    }
}

pub(super) fn offer(core: &Core, view: OfferView) -> rpc::Offer {
    rpc::Offer {
        id: view.id,
        framework: view.framework.to_string(),
        role: view.role,
        agent: view.agent,
        hostname: core
            .agent_named(&view.agent.to_string())
            .map(|a| a.info.hostname.to_string())
            .unwrap_or_default(),
        resources: view.resources,
        expires: view.expires,
        demand: view.demand,
    }
}

pub(super) fn roles(core: &Core, page: &Page, after: Option<&str>) -> Paged<rpc::Role> {
    let sums = core.sums();
    let mut members: BTreeMap<String, (Vec<String>, Bundle)> = BTreeMap::new();
    for view in core.frameworks(None, &sums) {
        for (role, _) in &view.roles {
            let entry = members.entry(role.to_string()).or_default();
            entry.0.push(view.name.to_string());
            // With one role, the framework's use is the role's; with several it counts under each.
            entry.1.add(&view.used);
        }
    }
    let mut tenants: BTreeMap<RoleName, TenantView> = core
        .tenants()
        .map(|tenant| (tenant.role.clone(), tenant))
        .collect();
    let rows: Vec<rpc::Role> = core
        .role_views()
        .into_iter()
        .filter(|view| after.is_none_or(|after| view.name.as_str() > after))
        .map(|view| {
            let (frameworks, used) = members.remove(view.name.as_str()).unwrap_or_default();
            let mut reserved = Bundle::default();
            for (kind, amount) in view.sums.reserved {
                match kind.as_str() {
                    "cpus" => reserved.cpus = amount,
                    "mem" => reserved.mem = amount,
                    "disk" => reserved.disk = amount,
                    "gpus" => reserved.gpus = amount,
                    _ => {}
                }
            }
            rpc::Role {
                policy: tenants
                    .remove(&view.name)
                    .map(|tenant| policies::tenant(core, tenant)),
                name: view.name,
                weight: view.weight,
                frameworks,
                share_milli: share_milli(&used, &sums.total),
                used,
                quotas: view.quotas,
                reserved,
            }
        })
        .collect();
    text_page(page, rows, |row| row.name.to_string())
}

/// Why something is as it is, of any core: a host's, or one that a recording was replayed to.
///
/// # Errors
/// There is no such thing.
pub fn explain(core: &Core, subject: &rpc::Subject) -> Answer<rpc::Explanation> {
    explain_with(core, subject, &[])
}

/// The same, with what the policy found for a framework's demands.
pub(super) fn explain_with(
    core: &Core,
    subject: &rpc::Subject,
    found: &[DemandFindings],
) -> Answer<rpc::Explanation> {
    match subject {
        rpc::Subject::Framework(name) => {
            let report = core
                .explain_framework(name)
                .ok_or_else(|| no_framework(name))?;
            Ok(explain_framework(&core.with_findings(report, found)))
        }
        rpc::Subject::Role(name) => {
            let role = super::role_names(std::slice::from_ref(name))?;
            let views = core.role_views().into_iter();
            let mut views = views.filter(|view| role.contains(&view.name));
            let view = views.next().ok_or_else(|| {
                OperatorError::NotFound(format!(
                    "no role '{name}' is in use; `proffer role list` shows those that are"
                ))
            })?;
            let own = |role: &RoleName| *role == view.name || role.is_strictly_below(&view.name);
            let takes = core.would_take_back();
            let takes: Vec<&WouldTake> = takes
                .filter(|take| own(&take.from.1) || own(&take.beneficiary.1))
                .collect();
            Ok(roles::explain(&view, &core.policy_name_for(&role), &takes))
        }
        rpc::Subject::Task(task) => {
            let report = core
                .explain_task(&task.framework, &task.task)
                .ok_or_else(|| {
                    OperatorError::NotFound(format!(
                        "{} has no task '{}'",
                        task.framework, task.task
                    ))
                })?;
            Ok(rpc::Explanation {
                sentences: report.sentences,
                reasons: Vec::new(),
            })
        }
        rpc::Subject::Agent(name) => {
            let view = core.agent_named(name).ok_or_else(|| {
                OperatorError::NotFound(format!(
                    "there is no agent '{name}'; `proffer agent list` shows those there are"
                ))
            })?;
            Ok(explain_agent(&view))
        }
    }
}

fn explain_framework(report: &proffer_core::FrameworkReport) -> rpc::Explanation {
    let name = &report.framework.name;
    let mut sentences: Vec<String> = report
        .general
        .iter()
        .map(|why| format!("{name}: {}", why.text))
        .collect();
    let mut reasons: Vec<rpc::ReasonCount> = report
        .general
        .iter()
        .map(|why| general(name, why))
        .collect();
    for demand in &report.demands {
        let key = &demand.demand.key;
        sentences.push(format!(
            "it demands {} × {} under {} as '{key}', of which {} are on offer",
            demand.demand.count, demand.demand.shape.resources, demand.demand.role, demand.offered
        ));
        for reason in &demand.reasons {
            let others = if reason.agents > 1 {
                format!(" (and {} more)", reason.agents - 1)
            } else {
                String::new()
            };
            let says = match reason.policy.as_str() {
                "" => String::new(),
                policy => format!(", says {policy}"),
            };
            sentences.push(format!("'{key}'{says}: {}{others}", reason.why.text));
            reasons.push(rpc::ReasonCount {
                subject: key.clone(),
                why: reason.why.clone(),
                agents: reason.agents,
                sample: reason.sample,
                short: reason.short.clone(),
                policy: reason.policy.clone(),
            });
        }
    }
    sentences.push(format!("decided by: {}", report.policy));
    rpc::Explanation { sentences, reasons }
}

fn general(name: &str, why: &Reason) -> rpc::ReasonCount {
    rpc::ReasonCount {
        subject: name.to_owned(),
        why: why.clone(),
        agents: 0,
        sample: None,
        short: Resources::none(),
        policy: String::new(),
    }
}

fn explain_agent(view: &AgentView) -> rpc::Explanation {
    let state = if view.active {
        "connected and offered"
    } else {
        "not connected, so nothing of it is offered"
    };
    let mut sentences = vec![
        format!("{} ({}) is {state}", view.id, view.info.hostname),
        format!("it has {}, of which {} is free", view.total, view.free),
        format!("{} of its tasks have not ended", view.tasks),
    ];
    if !view.deficit.is_empty() {
        sentences.push(format!(
            "it has less than is held there: {} too much is held",
            view.deficit
        ));
    }
    rpc::Explanation {
        sentences,
        reasons: Vec::new(),
    }
}

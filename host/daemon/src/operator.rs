//! What operators ask of this host: looks at the core between two events, and calls to it.

mod convert;
mod files;
mod plugins;
mod policies;
mod roles;

pub use convert::explain;

use std::sync::Arc;
use std::time::Duration;

use proffer_core::{Core, CoreConfig, Event, Reply, ReservationChange};
use proffer_model::{AgentId, LaunchNumber, OfferId, Reason, Remedy, RoleName, code};
use proffer_plugin::PluginHost;
use proffer_rpc::data::DataClient;
use proffer_rpc::operator as rpc;
use proffer_rpc::operator::{Answer, Operator, OperatorError, Page, Paged};
use proffer_store::Components;

use crate::candidate::Candidates;
use crate::clock::Clock;
use crate::frameworks::LimitsInForce;
use crate::handle::{HostGone, LoopHandle};
use crate::policy_seat::{Asker, Loader};
use crate::tenants::Tenants;
use crate::usage::UsageSeries;

/// How long a call that no framework answers may take: the store's commit is in it.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// How long a request to a framework may take at most; the core's own deadline comes first.
const REQUEST_WITHIN: Duration = Duration::from_secs(120);
/// Rows that a filter may pass over for one page: a page is made between two events.
const ROWS_LOOKED_AT_MAX: usize = 100_000;

/// Answers operators. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HostOperator {
    pub(crate) handle: LoopHandle,
    pub(crate) plugins: PluginHost,
    pub(crate) components: Components,
    pub(crate) usage: UsageSeries,
    pub(crate) limits: Arc<LimitsInForce>,
    pub(crate) clock: Clock,
    /// Where policies wait that are to be put in.
    pub(crate) candidates: Candidates,
    pub(crate) tenants: Tenants,
    /// For what only the policy can say.
    pub(crate) asker: Asker,
    /// For the host's own fetches from agents.
    pub(crate) data: Arc<DataClient>,
    pub(crate) about: Arc<About>,
}

/// What does not change while the host runs.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) cluster: String,
    pub(crate) http_address: String,
    pub(crate) core: CoreConfig,
}

impl HostOperator {
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Answer<T> {
        self.handle.query(look).await.map_err(gone)
    }

    fn loader(&self) -> Loader {
        Loader {
            plugins: self.plugins.clone(),
            components: self.components.clone(),
        }
    }

    /// A call that the core answers itself.
    async fn done(&self, event: impl FnOnce(proffer_core::Ticket) -> Event) -> Answer<Reply> {
        match self.handle.call(event, CALL_WITHIN).await.map_err(gone)? {
            Reply::Refused(why) => Err(refused(&why)),
            reply => Ok(reply),
        }
    }
}

impl Operator for HostOperator {
    async fn status(&self, _: rpc::StatusQuery) -> Answer<rpc::Status> {
        let (about, clock, usage) = (Arc::clone(&self.about), self.clock, self.usage.clone());
        self.look(move |core| convert::status(core, &usage.sums(core), &about, clock))
            .await
    }

    async fn agents(&self, query: rpc::AgentQuery) -> Answer<Paged<rpc::Agent>> {
        let after = query.page.after()?.map(AgentId);
        self.look(move |core| {
            let rows = convert::agents_and_gone(core, after);
            query.page.take(rows, |row| row.id.0)
        })
        .await
    }

    async fn frameworks(&self, query: rpc::FrameworkQuery) -> Answer<Paged<rpc::Framework>> {
        let after = query.page.after()?.map(proffer_model::FrameworkId);
        let usage = self.usage.clone();
        self.look(move |core| {
            let sums = usage.sums(core);
            let rows = core
                .frameworks(after, &sums)
                .map(|view| convert::framework(&view, &sums.total));
            query.page.take(rows, |row| row.id.0)
        })
        .await
    }

    async fn tasks(&self, query: rpc::TaskQuery) -> Answer<Paged<rpc::Task>> {
        let after = query.page.after()?.map(LaunchNumber);
        self.look(move |core| task_page(core, &query, after))
            .await?
    }

    async fn offers(&self, query: rpc::OfferQuery) -> Answer<Paged<rpc::Offer>> {
        let after = query.page.after()?.map(OfferId);
        self.look(move |core| {
            let wanted = |view: &proffer_core::OfferView| {
                query.framework.is_empty() || *view.framework == *query.framework
            };
            query.page.take_wanted(
                core.offers(after),
                ROWS_LOOKED_AT_MAX,
                |view| view.id.0,
                wanted,
                |view| convert::offer(core, view),
            )
        })
        .await
    }

    async fn roles(&self, query: rpc::RoleQuery) -> Answer<Paged<rpc::Role>> {
        let after: Option<String> = query.page.after()?;
        self.look(move |core| convert::roles(core, &query.page, after.as_deref()))
            .await
    }

    async fn framework(&self, name: rpc::FrameworkName) -> Answer<rpc::FrameworkDetail> {
        let (limits, about) = (Arc::clone(&self.limits), Arc::clone(&self.about));
        self.look(move |core| {
            let view = core
                .framework_named(&name.name)
                .ok_or_else(|| no_framework(&name.name))?;
            let limits = convert::limits(limits.of(view.id), &about.core);
            Ok(convert::framework_detail(core, view, limits))
        })
        .await?
    }

    async fn inspect(&self, component: rpc::InspectComponent) -> Answer<rpc::Plugin> {
        self.inspect_component(component).await
    }

    async fn add_framework(&self, framework: rpc::AddFramework) -> Answer<rpc::AddedFramework> {
        self.add(framework).await
    }

    async fn upgrade_framework(
        &self,
        upgrade: rpc::UpgradeFramework,
    ) -> Answer<rpc::UpgradedFramework> {
        self.upgrade(upgrade).await
    }

    async fn skip_event(&self, which: rpc::SkipEvent) -> Answer<()> {
        let rpc::SkipEvent { name, event } = which;
        self.done(|ticket| Event::EventSkipAsked {
            ticket,
            name,
            event,
        })
        .await
        .map(drop)
    }

    async fn plan_removal(&self, which: rpc::PlanRemoval) -> Answer<rpc::RemovalPlan> {
        self.look(move |core| {
            let view = core
                .framework_named(&which.name)
                .ok_or_else(|| no_framework(&which.name))?;
            let fate = convert::fate(which.reservations);
            Ok(convert::removal_plan(core, &view, fate))
        })
        .await?
    }

    async fn declare_agent_gone(&self, which: rpc::DeclareAgentGone) -> Answer<()> {
        self.done(|ticket| Event::AgentGoneAsked {
            ticket,
            agent: which.agent,
        })
        .await
        .map(drop)
    }

    async fn remove_framework(&self, which: rpc::RemoveFramework) -> Answer<()> {
        self.done(|ticket| Event::FrameworkRemovalAsked {
            ticket,
            name: which.name,
            reservations: convert::fate(which.reservations),
        })
        .await
        .map(drop)
    }

    async fn resume_framework(&self, which: rpc::ResumeFramework) -> Answer<()> {
        self.done(|ticket| Event::FrameworkResumeAsked {
            ticket,
            name: which.name,
        })
        .await
        .map(drop)
    }

    async fn kill_task(&self, which: rpc::KillTask) -> Answer<()> {
        let rpc::KillTask {
            framework,
            task,
            grace,
        } = which;
        self.done(|ticket| Event::TaskKillAsked {
            ticket,
            framework,
            task,
            grace,
        })
        .await
        .map(drop)
    }

    async fn task_logs(&self, which: rpc::TaskLogs) -> Answer<rpc::Chunks> {
        self.logs(which).await
    }

    async fn fetch_output(&self, which: rpc::FetchOutput) -> Answer<rpc::Chunks> {
        self.output(which).await
    }

    async fn request(&self, request: rpc::FrameworkRequest) -> Answer<rpc::FrameworkResponse> {
        let principal = if request.principal.is_empty() {
            "operator".to_owned()
        } else {
            request.principal
        };
        let event = |ticket| Event::RequestArrived {
            ticket,
            framework: request.framework,
            method: request.method,
            path: request.path,
            query: request.query,
            headers: request.headers,
            body: request.body.to_vec(),
            principal,
        };
        match self
            .handle
            .call(event, REQUEST_WITHIN)
            .await
            .map_err(gone)?
        {
            Reply::Response(response) => Ok(rpc::FrameworkResponse {
                status: response.status,
                headers: response.headers,
                body: response.body.into(),
            }),
            Reply::Refused(why) => Err(refused(&why)),
            Reply::Done | Reply::Added(_) => Err(OperatorError::Internal(
                "a request was answered without a response".to_owned(),
            )),
        }
    }

    async fn policy(&self, _: rpc::PolicyQuery) -> Answer<rpc::Policy> {
        self.look(convert::policy).await
    }

    async fn swap_policy(&self, swap: rpc::SwapPolicy) -> Answer<rpc::SwappedPolicy> {
        self.swap(swap).await
    }

    async fn cancel_policy_swap(&self, _: rpc::CancelPolicySwap) -> Answer<()> {
        self.done(|ticket| Event::SwapCancelAsked { ticket })
            .await
            .map(drop)
    }

    async fn promote_policy(&self, promote: rpc::PromotePolicy) -> Answer<rpc::SwappedPolicy> {
        self.promote(promote).await
    }

    async fn roll_back_policy(&self, back: rpc::RollBackPolicy) -> Answer<rpc::SwappedPolicy> {
        self.roll_back(back).await
    }

    async fn policy_history(
        &self,
        query: rpc::PolicyHistoryQuery,
    ) -> Answer<Paged<rpc::PolicyRecord>> {
        self.history(query).await
    }

    async fn set_role(&self, role: rpc::SetRole) -> Answer<()> {
        let rpc::SetRole { name, weight } = role;
        self.done(|ticket| Event::RoleSet {
            ticket,
            role: name,
            weight,
        })
        .await
        .map(drop)
    }

    async fn set_role_policy(&self, set: rpc::SetRolePolicy) -> Answer<()> {
        self.give_role_policy(set).await
    }

    async fn set_quota(&self, quota: rpc::SetQuota) -> Answer<()> {
        let rpc::SetQuota {
            name,
            quotas,
            force,
            weight,
        } = quota;
        self.done(|ticket| Event::QuotaSet {
            ticket,
            role: name,
            quotas,
            weight,
            force,
        })
        .await
        .map(drop)
    }

    async fn reserve(&self, reserve: rpc::Reserve) -> Answer<()> {
        let rpc::Reserve {
            agent,
            resources,
            unreserve,
        } = reserve;
        let change = if unreserve {
            ReservationChange::Unreserve
        } else {
            ReservationChange::Reserve
        };
        self.done(|ticket| Event::ReservationAsked {
            ticket,
            agent,
            resources,
            change,
        })
        .await
        .map(drop)
    }

    async fn explain(&self, subject: rpc::Subject) -> Answer<rpc::Explanation> {
        let found = match &subject {
            rpc::Subject::Framework(name) => self.ask_policies(name).await?,
            _ => Vec::new(),
        };
        self.look(move |core| convert::explain_with(core, &subject, &found))
            .await?
    }

    async fn usage(&self, query: rpc::UsageQuery) -> Answer<rpc::Usage> {
        Ok(self.usage.since(query.since))
    }
}

fn task_page(
    core: &Core,
    query: &rpc::TaskQuery,
    after: Option<LaunchNumber>,
) -> Answer<Paged<rpc::Task>> {
    let framework = match query.framework.as_str() {
        "" => None,
        name => Some(
            core.framework_named(name)
                .ok_or_else(|| no_framework(name))?
                .id,
        ),
    };
    if !query.agent.is_empty() && after.is_none() && !is_agent(core, &query.agent) {
        let name = &query.agent;
        return Err(OperatorError::NotFound(format!(
            "there is no agent '{name}'; `proffer agent list` shows those there are"
        )));
    }
    let wanted = |view: &proffer_core::TaskView| {
        let there = query.agent.is_empty()
            || *view.hostname == *query.agent
            || view.agent.to_string() == query.agent
            || view.agent.0.to_string() == query.agent;
        there && (query.states.is_empty() || query.states.contains(&view.state))
    };
    Ok(query.page.take_wanted(
        core.tasks(framework, after),
        ROWS_LOOKED_AT_MAX,
        |view| view.launch.0,
        wanted,
        convert::task,
    ))
}

/// Whether an agent has this name or number, or had it when it was declared gone.
fn is_agent(core: &Core, name: &str) -> bool {
    let is = |id: AgentId, hostname: &str| {
        hostname == name || id.to_string() == name || id.0.to_string() == name
    };
    core.agents(None)
        .any(|view| is(view.id, &view.info.hostname))
        || core
            .gone_agents(None)
            .any(|view| is(view.id, &view.hostname))
}

/// A page of rows whose key is a text.
fn text_page<T>(page: &Page, rows: Vec<T>, key: impl Fn(&T) -> String) -> Paged<T> {
    page.take(rows, |row| key(row))
}

fn gone(_: HostGone) -> OperatorError {
    OperatorError::Unavailable("the host is shutting down".to_owned())
}

fn no_framework(name: &str) -> OperatorError {
    OperatorError::NotFound(format!(
        "there is no framework named '{name}'; `proffer framework list` shows those there are"
    ))
}

/// A reason of the core's as an operator's error.
fn refused(why: &Reason) -> OperatorError {
    let text = why.text.clone();
    match (why.code.as_ref(), why.remedy) {
        (code::UNKNOWN, _) => OperatorError::NotFound(text),
        (_, Remedy::Unsupported) => OperatorError::Unsupported(text),
        (_, Remedy::Denied) => OperatorError::Denied(text),
        (_, Remedy::ChooseAnew) => OperatorError::Conflict(text),
        (_, Remedy::Retry) => OperatorError::Unavailable(text),
        (_, Remedy::Mend) => OperatorError::Invalid(text),
    }
}

/// Role names as texts, checked.
fn role_names(texts: &[String]) -> Answer<Vec<RoleName>> {
    let role = |text: &String| {
        RoleName::new(text.as_str()).map_err(|error| OperatorError::Invalid(error.to_string()))
    };
    texts.iter().map(role).collect()
}

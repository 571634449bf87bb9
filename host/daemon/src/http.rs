//! The pages: `/metrics` for Prometheus, `/healthz` for whoever restarts hosts.
//!
//! Every page wants the token, as every call does: `authorization: Bearer …`.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use proffer_core::Core;
use proffer_rpc::Token;
use proffer_store::etcd::Authority;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::handle::LoopHandle;
use crate::metrics::{Metrics, standby_text};

/// What the version of the text format is called.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What pages are made of.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) handle: LoopHandle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) authority: Authority,
    pub(crate) token: Token,
}

/// Serves pages until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    pages: Pages,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .layer(from_fn_with_state(pages.clone(), authorize))
        .with_state(pages);
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown)
        .await
}

/// What a standby's pages are made of.
#[derive(Clone, Debug)]
pub(crate) struct StandbyPages {
    pub(crate) token: Token,
    /// Where the leader's pages are; empty: nobody leads, or it has none.
    pub(crate) leader: watch::Receiver<String>,
    pub(crate) authority: Authority,
}

/// A standby's pages, until `shutdown`: it lives, and how leading has gone; everything else is at the leader.
pub(crate) async fn serve_standby(
    listener: TcpListener,
    pages: StandbyPages,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new().fallback(standby).with_state(pages);
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn standby(State(pages): State<StandbyPages>, request: Request) -> Response {
    if !has_token(&request, &pages.token) {
        return unauthorized();
    }
    let leader = pages.leader.borrow().clone();
    let path = request.uri().path();
    match (path, leader.as_str()) {
        ("/metrics", _) => metrics_page(standby_text(&pages.authority)),
        ("/healthz", "") => (StatusCode::OK, "ok: standby; nobody leads now\n").into_response(),
        ("/healthz", leader) => {
            (StatusCode::OK, format!("ok: standby of {leader}\n")).into_response()
        }
        (_, "") => {
            let text = "this host does not lead, and knows of none that does now\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
        (path, leader) => Redirect::temporary(&format!("http://{leader}{path}")).into_response(),
    }
}

async fn authorize(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    if has_token(&request, &pages.token) {
        return next.run(request).await;
    }
    unauthorized()
}

fn has_token(request: &Request, token: &Token) -> bool {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    given.is_some_and(|given| token.matches(given))
}

fn unauthorized() -> Response {
    let text = "wanted 'authorization: Bearer TOKEN'; the token is in the host's data directory\n";
    (StatusCode::UNAUTHORIZED, text).into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    metrics_page(pages.metrics.text(&pages.authority))
}

fn metrics_page(text: String) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

/// The loop answers: the host lives.
async fn health(State(pages): State<Pages>) -> Response {
    let counts = |core: &Core| (core.agents_connected(), core.agent_count());
    match pages.handle.query(counts).await {
        Ok((connected, agents)) => {
            let text = format!("ok: {connected} of {agents} agents connected\n");
            (StatusCode::OK, text).into_response()
        }
        Err(gone) => (StatusCode::SERVICE_UNAVAILABLE, format!("{gone}\n")).into_response(),
    }
}

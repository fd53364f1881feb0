//! Jobs of the host: how they stand, and an admin's moves. Each move has an audit row.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_model::{Millis, job};
use wharf_store::NewAudit;

use crate::{
    Api, Problem,
    auth::{Allowed, Caller, scope},
    extract::{NoQuery, Path},
};

/// A job: scheduled work of the host itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct Job {
    name: String,
    every_ms: i64,
    /// Without a good end for longer than this it is stale.
    stale_ms: i64,
    stale: bool,
    /// When it runs next; of one that is running, when its process must have renewed its claim.
    due_ms: i64,
    /// The process that runs it.
    owner: Option<Uuid>,
    /// Rises with every run that begins.
    epoch: i64,
    /// It runs once more when it has ended.
    forced: bool,
    last_begun_ms: Option<i64>,
    last_ended_ms: Option<i64>,
    last_ok_ms: Option<i64>,
    /// What its last good run found.
    last_result: Option<Value>,
    /// Why its last run failed; none if it did not.
    last_error: Option<String>,
    /// Epoch of the run that ended last.
    last_epoch: i64,
    runs: i64,
    /// Runs whose process died.
    took_over: i64,
}

impl Job {
    fn at(row: job::Job, now: Millis) -> Self {
        Self {
            stale: row.is_stale(now),
            name: row.name,
            every_ms: row.every_ms,
            stale_ms: row.stale_ms,
            due_ms: row.due_ms,
            owner: row.owner,
            epoch: row.epoch,
            forced: row.forced,
            last_begun_ms: row.last_begun_ms,
            last_ended_ms: row.last_ended_ms,
            last_ok_ms: row.last_ok_ms,
            last_result: row.last_result,
            last_error: row.last_error,
            last_epoch: row.last_epoch,
            runs: row.runs,
            took_over: row.took_over,
        }
    }
}

fn audit(caller: &Caller, action: &str, name: Option<&str>) -> NewAudit {
    let subject = name.map_or_else(|| "job".to_owned(), |name| format!("job/{name}"));
    NewAudit { actor: caller.name.clone(), action: action.into(), subject, body: json!({}) }
}

/// All jobs.
#[utoipa::path(
    get, path = "/v1/admin/jobs", tag = "jobs", operation_id = "list-jobs",
    security(("token" = ["admin"])),
    responses((status = 200, description = "By name.", body = Vec<Job>))
)]
pub async fn list(_: Allowed<scope::Admin>, State(api): State<Api>, _: NoQuery) -> Result<Json<Vec<Job>>, Problem> {
    let now = api.lender.clock.now_ms();
    Ok(Json(api.lender.books.jobs().await?.into_iter().map(|row| Job::at(row, now)).collect()))
}

/// One job, with what its last run found.
#[utoipa::path(
    get, path = "/v1/admin/jobs/{name}", tag = "jobs", operation_id = "show-job",
    params(("name" = String, Path, description = "As in the list.")),
    security(("token" = ["admin"])),
    responses((status = 200, description = "As it stands.", body = Job))
)]
pub async fn show(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Job>, Problem> {
    let row = api.lender.books.job(&name).await?.ok_or_else(|| Problem::not_found("such job"))?;
    Ok(Json(Job::at(row, api.lender.clock.now_ms())))
}

/// Makes a job due now; one that is running runs once more afterwards. The job is shown as it stood before: the result of the
/// forced run is there once `last_epoch` is above that `epoch`.
#[utoipa::path(
    post, path = "/v1/admin/jobs/{name}/force", tag = "jobs", operation_id = "force-job",
    params(("name" = String, Path, description = "As in the list.")),
    security(("token" = ["admin"])),
    responses((status = 202, description = "It runs as soon as a host is free.", body = Job))
)]
pub async fn force(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<(StatusCode, Json<Job>), Problem> {
    let now = api.lender.clock.now_ms();
    let before = api.lender.books.force_job(&name, audit(&caller, "job.force", Some(&name)), now).await?;
    api.engine.nudge();
    Ok((StatusCode::ACCEPTED, Json(Job::at(before, now))))
}

/// Jobs whose lock was taken away.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cleared {
    /// Those that a process held.
    cleared: Vec<String>,
}

/// Takes a job away from the process that runs it. Another begins it anew; what the first may still find is not written.
#[utoipa::path(
    post, path = "/v1/admin/jobs/{name}/clear-locks", tag = "jobs", operation_id = "clear-job-lock",
    params(("name" = String, Path, description = "As in the list.")),
    security(("token" = ["admin"])),
    responses((status = 200, description = "Nobody holds it now.", body = Cleared))
)]
pub async fn clear(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Cleared>, Problem> {
    clear_locks(&api, &caller, Some(&name)).await
}

/// Takes all jobs away from the processes that run them.
#[utoipa::path(
    post, path = "/v1/admin/jobs/clear-locks", tag = "jobs", operation_id = "clear-job-locks",
    security(("token" = ["admin"])),
    responses((status = 200, description = "Nobody holds any now.", body = Cleared))
)]
pub async fn clear_all(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    _: NoQuery,
) -> Result<Json<Cleared>, Problem> {
    clear_locks(&api, &caller, None).await
}

async fn clear_locks(api: &Api, caller: &Caller, name: Option<&str>) -> Result<Json<Cleared>, Problem> {
    let now = api.lender.clock.now_ms();
    let cleared = api.lender.books.clear_job_locks(name, audit(caller, "job.clear-locks", name), now).await?;
    api.engine.nudge();
    Ok(Json(Cleared { cleared }))
}

//! Calls of lifecycle hooks and panel adapters.
//!
//! Guarantees that what comes back is cut to size, and that what goes on into HTTP has no line break where it would be a
//! second header.

use wasmtime::component::Resource;
use wharf_capabilities::{
    call::{Bound, DeliveryHandle, HookBinding, QuestionHandle},
    hook::open_settings,
};
use wharf_model::manifest::Manifest;

use crate::{
    bindings::{
        asked::exports::wharf::hook::asked, hook::exports::wharf::hook::told, panel::exports::wharf::panel::adapter,
    },
    call::{Done, Job},
    registry::Exports,
    report::{
        CallError, CallReport, Cause, Failure, Heard, PanelAnswer, PanelCommand, PanelHook, PanelResult, Verdict,
    },
    runtime::Runtime,
    step::{bad_answer, failure},
    text,
};

/// Options or facts of one order.
const MAX_PAIRS: usize = 500;
/// Longest name and value of one.
const MAX_NAME: usize = 200;
const MAX_VALUE: usize = 16 * 1024;
/// Longest answer to a panel; the largest that is known has 3 KiB.
const MAX_BODY: usize = 1 << 20;

impl Runtime {
    /// Tells a hook of an event.
    ///
    /// # Errors
    /// The plugin gave no answer.
    pub async fn tell(
        &self,
        plugin: &str,
        binding: HookBinding,
    ) -> Result<CallReport<Result<Heard, Failure>>, CallError> {
        let callee = self.current(plugin).await?;
        let job: Job<Result<Heard, Failure>> = Box::new(|store, instance, exports| {
            Box::pin(async move {
                let Exports::LifecycleHook(main, _) = exports else {
                    wasmtime::bail!("it is not a lifecycle hook: name one in the hook's `plugin`");
                };
                let plugin = main.load(&mut *store, instance)?;
                let handle = store.data_mut().call.table.push(DeliveryHandle)?;
                let handle = Resource::new_borrow(handle.rep());
                let told = plugin.wharf_hook_told().call_tell(&mut *store, handle).await?;
                Ok(told.map(heard).map_err(failure))
            })
        });
        let done = self.call(&callee, Bound::Hook(Box::new(binding)), "tell", job).await?;
        Ok(report(done, callee.loaded.row.version.clone()))
    }

    /// Asks a hook before an operation begins. `None` = the plugin is never asked: it does not have that export.
    ///
    /// # Errors
    /// The plugin gave no answer.
    pub async fn ask(
        &self,
        plugin: &str,
        binding: HookBinding,
    ) -> Result<CallReport<Option<Result<Verdict, Failure>>>, CallError> {
        let callee = self.current(plugin).await?;
        let version = callee.loaded.row.version.clone();
        if let Exports::LifecycleHook(_, None) = callee.loaded.exports {
            return Ok(CallReport {
                version,
                answer: None,
                log: Vec::new(),
                took: std::time::Duration::ZERO,
                used: Default::default(),
            });
        }
        let job: Job<Option<Result<Verdict, Failure>>> = Box::new(|store, instance, exports| {
            Box::pin(async move {
                let Exports::LifecycleHook(_, Some(part)) = exports else {
                    wasmtime::bail!("it is not a lifecycle hook: name one in the hook's `plugin`");
                };
                let plugin = part.load(&mut *store, instance)?;
                let handle = store.data_mut().call.table.push(QuestionHandle)?;
                let handle = Resource::new_borrow(handle.rep());
                let answer = plugin.wharf_hook_asked().call_ask(&mut *store, handle).await?;
                Ok(Some(answer.map_err(failure).and_then(verdict)))
            })
        });
        let done = self.call(&callee, Bound::Hook(Box::new(binding)), "ask", job).await?;
        Ok(report(done, version))
    }

    /// What a panel wants, from what it posted.
    ///
    /// # Errors
    /// The plugin gave no answer.
    pub async fn translate(
        &self,
        plugin: &str,
        of: &PanelHook,
    ) -> Result<CallReport<Result<PanelCommand, Failure>>, CallError> {
        let callee = self.current(plugin).await?;
        let of = posted(of, &callee.loaded.row.manifest);
        let job: Job<Result<PanelCommand, Failure>> = Box::new(move |store, instance, exports| {
            Box::pin(async move {
                let Exports::PanelAdapter(main) = exports else {
                    wasmtime::bail!("it is not a panel adapter: name one in the panel's `plugin`");
                };
                let plugin = main.load(&mut *store, instance)?;
                let answer = plugin.wharf_panel_adapter().call_translate(&mut *store, &of).await?;
                Ok(answer.map_err(failure).and_then(command))
            })
        });
        let done = self.call(&callee, Bound::Nothing, "translate", job).await?;
        Ok(report(done, callee.loaded.row.version.clone()))
    }

    /// What the panel's module gets back.
    ///
    /// # Errors
    /// The plugin gave no answer, or one that is no HTTP answer with a body of at most 1 MiB.
    pub async fn present(&self, plugin: &str, of: &PanelHook, what: PanelResult) -> Result<PanelAnswer, CallError> {
        let callee = self.current(plugin).await?;
        let of = posted(of, &callee.loaded.row.manifest);
        let what = adapter::ResultOf {
            accepted: what.accepted,
            operation: what.operation,
            phase: what.phase,
            code: what.code,
            customer_message: what.customer_message,
            admin_message: what.admin_message,
            ext: what.ext,
        };
        let job: Job<adapter::Answer> = Box::new(move |store, instance, exports| {
            Box::pin(async move {
                let Exports::PanelAdapter(main) = exports else {
                    wasmtime::bail!("it is not a panel adapter: name one in the panel's `plugin`");
                };
                let plugin = main.load(&mut *store, instance)?;
                plugin.wharf_panel_adapter().call_present(&mut *store, &of, &what).await
            })
        });
        let mut done = self.call(&callee, Bound::Nothing, "present", job).await?;
        let log = done.log();
        let (answer, used) = (done.answer, done.used);
        let refuse = |problem: &str| CallError {
            cause: Cause::Limit,
            version: Some(callee.loaded.row.version.clone()),
            text: format!("`{plugin}` failed in `present`: {problem}"),
            log,
            used,
        };
        if answer.body.len() > MAX_BODY {
            return Err(refuse("its answer has more than 1 MiB"));
        }
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        if answer.content_type.is_empty() || answer.content_type.len() > 200 || !answer.content_type.chars().all(plain)
        {
            return Err(refuse("its content type is empty, too long or holds characters that no header may hold"));
        }
        if let Some(status) = answer.status.filter(|s| !(200..=599).contains(s)) {
            return Err(refuse(&format!("{status} is no HTTP status of 200 to 599")));
        }
        Ok(PanelAnswer { status: answer.status, content_type: answer.content_type, body: answer.body })
    }
}

fn posted(of: &PanelHook, manifest: &Manifest) -> adapter::Hook {
    adapter::Hook {
        panel: of.panel.clone(),
        verb: of.verb.clone(),
        query: of.query.clone(),
        headers: of.headers.clone(),
        content_type: of.content_type.clone(),
        body: of.body.clone(),
        settings: open_settings(manifest, &of.settings).to_string(),
        ext: Vec::new(),
    }
}

fn heard(of: told::Heard) -> Heard {
    match of {
        told::Heard::Delivered => Heard::Delivered,
        told::Heard::Ignored => Heard::Ignored,
        told::Heard::GivenUp(why) => Heard::GivenUp(text::cut(&why, text::MESSAGE)),
    }
}

pub(crate) fn report<T>(mut done: Done<T>, version: semver::Version) -> CallReport<T> {
    CallReport { version, log: done.log(), answer: done.answer, took: done.took, used: done.used }
}

fn verdict(of: asked::Verdict) -> Result<Verdict, Failure> {
    match of {
        asked::Verdict::Allow => Ok(Verdict::Allow),
        asked::Verdict::Deny(why) => Ok(Verdict::Deny(text::cut(&why, text::MESSAGE))),
        asked::Verdict::Amend(json) => match serde_json::from_str(&json) {
            Ok(serde_json::Value::Object(values)) => Ok(Verdict::Amend(values)),
            _ => Err(bad_answer("the hook amended the order with something that is no JSON object".to_owned())),
        },
    }
}

fn command(of: adapter::Command) -> Result<PanelCommand, Failure> {
    let long = |what: &str, is: usize, may: usize| {
        Err(bad_answer(format!("the adapter's {what} has {is} bytes, and {may} are the most")))
    };
    if of.verb.is_empty() || of.verb.len() > text::CODE {
        return long("verb", of.verb.len(), text::CODE);
    }
    if of.ref_.is_empty() || of.ref_.len() > MAX_NAME {
        return long("`ref`", of.ref_.len(), MAX_NAME);
    }
    if let Some(plan) = of.plan.as_ref().filter(|p| p.len() > MAX_NAME) {
        return long("plan", plan.len(), MAX_NAME);
    }
    for (what, pairs) in [("options", &of.options), ("facts", &of.facts)] {
        if pairs.len() > MAX_PAIRS {
            return Err(bad_answer(format!("the adapter gave {} {what}, and {MAX_PAIRS} are the most", pairs.len())));
        }
        if let Some((name, _)) = pairs.iter().find(|(n, v)| n.len() > MAX_NAME || v.len() > MAX_VALUE) {
            return Err(bad_answer(format!("the adapter's {what} `{}` is too long", text::cut(name, MAX_NAME))));
        }
    }
    Ok(PanelCommand {
        verb: of.verb,
        reference: of.ref_,
        plan: of.plan,
        options: of.options,
        facts: of.facts,
        ext: text::cut_ext(of.ext),
    })
}

//! A façade that an author describes in one file: a script in Rhai (<https://rhai.rs/book/>).
//!
//! docs/conformance.md has every function that the file may have, and what its arguments can do. A script reaches the zones of
//! the model and nothing else: no file, no network, no clock, no other script. Bounded by [`OPERATIONS`] a call, [`LEVELS`]
//! calls inside each other, and the sizes below. What goes wrong in it is told with its file, line and column; a request that
//! it could not answer is answered with 500 and kept as a complaint, so that a provider is never blamed for it.

mod convert;
mod reach;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, FuncArgs, Map, Position, Scope};
use serde_json::Value;

use self::reach::{Api, Asked};
use crate::{
    facade::{Facade, Features, Refusal, Request, Response, Wait, http_date},
    model::Model,
};

/// Steps of the script for one request: a second or two. A list of 5,000 records takes some 100,000.
const OPERATIONS: u64 = 20_000_000;
/// Functions that call each other.
const LEVELS: usize = 24;
const EXPRESSION_DEPTH: usize = 64;
/// Bytes of a text, entries of a list and of a map.
const SIZES: (usize, usize, usize) = (16 << 20, 100_000, 10_000);
/// Complaints that are kept.
const COMPLAINTS: usize = 10;

/// Functions that a script must have, and those that it may have, with their parameters.
const NEEDED: [(&str, usize, &str); 3] =
    [("settings", 1, "settings(base)"), ("answer", 2, "answer(request, api)"), ("refusal", 2, "refusal(why, wait)")];
const OPTIONAL: [(&str, usize, &str); 5] = [
    ("features", 0, "features()"),
    ("zone_settings", 2, "zone_settings(base, zone)"),
    ("is_write", 1, "is_write(request)"),
    ("pause", 1, "pause(request)"),
    ("new_zone", 1, "new_zone(zone)"),
];

/// What is wrong with a script: its file, the line and column where they are known, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

/// A script that was read and tried once.
#[derive(Clone)]
pub struct Script(Arc<Inner>);

struct Inner {
    engine: Engine,
    ast: AST,
    file: String,
    /// Line of each function.
    lines: BTreeMap<String, usize>,
    features: Features,
    complaints: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("file", &self.0.file).finish_non_exhaustive()
    }
}

/// How a call of a function ended early.
enum Ended {
    /// An answer was thrown: it is given, and nothing of the request was done.
    Thrown(Response),
    /// File, line, column and what is wrong there.
    Broken(String),
}

impl Script {
    /// Reads a file, checks that it has what a façade needs, and calls what can be called without a request.
    ///
    /// # Errors
    /// It can't be read, is no script, or a function is missing or gives what it shouldn't.
    pub fn read(file: &Path) -> Result<Self, ScriptError> {
        let name = file.strip_prefix("./").unwrap_or(file).display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| ScriptError(format!("{name} can't be read: {e}")))?;
        Self::parse(&name, &text)
    }

    /// The same of a text that stands in a file of this name.
    ///
    /// # Errors
    /// See [`Script::read`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        let engine = engine();
        let ast = engine.compile(text).map_err(|error| {
            let at = placed(file, error.position());
            ScriptError(format!("{at}: {}", error.err_type()))
        })?;
        let lines = lines(text);
        let mut inner = Inner {
            engine,
            ast,
            file: file.to_owned(),
            lines,
            features: Features::default(),
            complaints: Mutex::default(),
        };
        inner.check_functions()?;
        inner.features = inner.features()?;
        let script = Self(Arc::new(inner));
        let api = script.api();
        let wait = Wait::Seconds(1);
        for why in [
            Refusal::Credentials,
            Refusal::Forbidden,
            Refusal::RateLimited(wait),
            Refusal::RateLimited(Wait::Unsaid),
            Refusal::Broken,
            Refusal::Quota,
        ] {
            api.refused(why).map_err(ScriptError)?;
        }
        api.given("settings", ("http://127.0.0.1:1".to_owned(),)).map_err(ScriptError)?;
        Ok(script)
    }

    /// A fresh façade.
    pub fn facade(&self) -> Box<dyn Facade> {
        Box::new(self.api())
    }

    fn api(&self) -> Scripted {
        Scripted { script: Arc::clone(&self.0), state: Map::new() }
    }

    /// What went wrong in the script since this was asked last, in its façades all together: then what was seen there says
    /// nothing of a provider.
    pub fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut *held(&self.0.complaints))
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine() -> Engine {
    let mut engine = Engine::new();
    let (text, list, map) = SIZES;
    engine
        .set_max_operations(OPERATIONS)
        .set_max_call_levels(LEVELS)
        .set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH)
        .set_max_string_size(text)
        .set_max_array_size(list)
        .set_max_map_size(map)
        .disable_symbol("eval")
        // Standard output is the command's.
        .on_print(|text| eprintln!("{text}"))
        .on_debug(|text, _, at| eprintln!("{at:?}: {text}"));
    reach::register(&mut engine);
    engine
}

fn placed(file: &str, at: Position) -> String {
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
        (Some(line), None) => format!("{file}:{line}"),
        _ => file.to_owned(),
    }
}

/// Where each function begins: a parsed one does not say.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let name = |line: &str| {
        let rest = line.trim_start().trim_start_matches("private ").strip_prefix("fn ")?.trim_start();
        Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
    };
    text.lines().enumerate().filter_map(|(n, line)| Some((name(line)?, n + 1))).collect()
}

impl Inner {
    fn place_of(&self, function: &str) -> String {
        self.lines.get(function).map_or_else(|| self.file.clone(), |line| format!("{}:{line}", self.file))
    }

    fn check_functions(&self) -> Result<(), ScriptError> {
        let has: BTreeSet<(String, usize)> =
            self.ast.iter_functions().map(|f| (f.name.to_owned(), f.params.len())).collect();
        for (name, parameters, shape) in NEEDED.iter().chain(&OPTIONAL) {
            if has.contains(&((*name).to_owned(), *parameters)) {
                continue;
            }
            if has.iter().any(|(n, _)| n == name) {
                return Err(ScriptError(format!("{}: write it as `fn {shape}`", self.place_of(name))));
            }
            if NEEDED.iter().any(|(n, ..)| n == name) {
                return Err(ScriptError(format!("{}: there is no `fn {shape}`, which every façade has", self.file)));
            }
        }
        Ok(())
    }

    fn has(&self, function: &str) -> bool {
        self.ast.iter_functions().any(|f| f.name == function)
    }

    fn call(&self, function: &str, arguments: impl FuncArgs) -> Result<Dynamic, Ended> {
        // Statements outside of functions are never run.
        let options = CallFnOptions::new().eval_ast(false);
        let called =
            self.engine.call_fn_with_options::<Dynamic>(options, &mut Scope::new(), &self.ast, function, arguments);
        called.map_err(|error| self.ended(function, &error))
    }

    fn ended(&self, function: &str, error: &EvalAltResult) -> Ended {
        let base = error.unwrap_inner();
        let at = match (base.position(), error.position()) {
            (Position::NONE, Position::NONE) => self.place_of(function),
            (Position::NONE, outer) => placed(&self.file, outer),
            (inner, _) => placed(&self.file, inner),
        };
        let said = match base {
            EvalAltResult::ErrorRuntime(thrown, _) => match convert::response(thrown) {
                Ok(response) => return Ended::Thrown(response),
                Err(_) => thrown.to_string(),
            },
            EvalAltResult::ErrorVariableNotFound(name, _) => format!(
                "there is no variable `{name}` here: a function sees its parameters and what is made in it; what all share \
                 is a function, as in `fn {}() {{ 100 }}`",
                name.to_lowercase()
            ),
            EvalAltResult::ErrorFunctionNotFound(name, _) => format!("there is no function `{name}`"),
            EvalAltResult::ErrorTooManyOperations(_) => {
                format!("it is not done after {OPERATIONS} steps: does a loop never end?")
            }
            other => {
                let mut bare = other.to_string();
                // The place stands in front already.
                if let Some(cut) = bare.find(" (line ") {
                    bare.truncate(cut);
                }
                bare
            }
        };
        Ended::Broken(format!("{at}: {said}"))
    }

    fn features(&self) -> Result<Features, ScriptError> {
        let mut features = Features::default();
        if !self.has("features") {
            return Ok(features);
        }
        let at = self.place_of("features");
        let told = match self.call("features", ()) {
            Ok(told) => told,
            Err(Ended::Thrown(_)) => return Err(ScriptError(format!("{at}: `features` throws"))),
            Err(Ended::Broken(why)) => return Err(ScriptError(why)),
        };
        let wrong = |what: String| ScriptError(format!("{at}: `features` gives a map of true and false, and {what}"));
        let kind = told.type_name();
        let told = told.try_cast::<Map>().ok_or_else(|| wrong(format!("this is a {kind}")))?;
        for (name, is) in told {
            let is = is.as_bool().map_err(|kind| wrong(format!("`{name}` is a {kind}")))?;
            let one = match name.as_str() {
                "pages" => &mut features.pages,
                "ids" => &mut features.ids,
                "disabled" => &mut features.disabled,
                "comments" => &mut features.comments,
                "read_only" => &mut features.read_only,
                "quota" => &mut features.quota,
                _ => {
                    return Err(wrong(format!(
                        "`{name}` is none: there are pages, ids, disabled, comments, read_only and quota"
                    )));
                }
            };
            *one = is;
        }
        Ok(features)
    }

    fn complain(&self, why: String) {
        let mut complaints = held(&self.complaints);
        if complaints.len() < COMPLAINTS && !complaints.contains(&why) {
            complaints.push(why);
        }
    }
}

/// One account at the API that a script describes.
struct Scripted {
    script: Arc<Inner>,
    /// What the script keeps beside the zones.
    state: Map,
}

impl Scripted {
    /// An object that a function gives, as JSON.
    fn given(&self, function: &str, arguments: impl FuncArgs) -> Result<Value, String> {
        let at = self.script.place_of(function);
        match self.script.call(function, arguments) {
            Ok(told) if told.is_map() => convert::to_json(&told).map_err(|why| format!("{at}: `{function}`: {why}")),
            Ok(told) => Err(format!("{at}: `{function}` gives a map, and this is a {}", told.type_name())),
            Err(Ended::Thrown(_)) => Err(format!("{at}: `{function}` throws")),
            Err(Ended::Broken(why)) => Err(why),
        }
    }

    fn refused(&self, why: Refusal) -> Result<Response, String> {
        let name = match why {
            Refusal::Credentials => "credentials",
            Refusal::Forbidden => "forbidden",
            Refusal::RateLimited(_) => "rate-limited",
            Refusal::Broken => "broken",
            Refusal::Quota => "quota",
        };
        let wait = match why {
            Refusal::RateLimited(wait) => waiting(wait),
            _ => Dynamic::UNIT,
        };
        let at = self.script.place_of("refusal");
        match self.script.call("refusal", (name.to_owned(), wait)) {
            Ok(told) => convert::response(&told).map_err(|wrong| format!("{at}: `refusal` of \"{name}\": {wrong}")),
            Err(Ended::Thrown(response)) => Ok(response),
            Err(Ended::Broken(why)) => Err(why),
        }
    }

    /// What a script that broke is answered with.
    fn broken(&self, why: String) -> Response {
        let response = Response::text(500, "text/plain; charset=utf-8", why.clone());
        self.script.complain(why);
        response
    }

    /// A value of a function that has none of its own kind where it fails.
    fn asked<T>(&self, function: &str, request: &Request, read: impl FnOnce(&Dynamic) -> Option<T>) -> Option<T> {
        if !self.script.has(function) {
            return None;
        }
        match self.script.call(function, (Asked::of(request),)) {
            Ok(told) => {
                let value = read(&told);
                if value.is_none() {
                    let at = self.script.place_of(function);
                    self.script.complain(format!("{at}: `{function}` can't be a {}", told.type_name()));
                }
                value
            }
            Err(Ended::Thrown(_)) => None,
            Err(Ended::Broken(why)) => {
                self.script.complain(why);
                None
            }
        }
    }
}

/// How long to wait, as a script is told: `()` where nothing is said.
fn waiting(wait: Wait) -> Dynamic {
    let (seconds, header, own) = match wait {
        Wait::Unsaid => return Dynamic::UNIT,
        Wait::Seconds(seconds) => (seconds, seconds.to_string(), false),
        Wait::Own(seconds) => (seconds, seconds.to_string(), true),
        Wait::Date(from_now) => (from_now.as_secs(), http_date(SystemTime::now() + from_now), false),
    };
    let mut map = Map::new();
    map.insert("seconds".into(), i64::try_from(seconds).unwrap_or(i64::MAX).into());
    map.insert("header".into(), header.into());
    map.insert("own".into(), own.into());
    map.into()
}

impl Facade for Scripted {
    fn settings(&self, base: &str) -> Value {
        self.given("settings", (base.to_owned(),)).unwrap_or_else(|why| {
            self.script.complain(why);
            Value::Object(serde_json::Map::new())
        })
    }

    fn zone_settings(&self, base: &str, zone: &str) -> Value {
        if !self.script.has("zone_settings") {
            return self.settings(base);
        }
        self.given("zone_settings", (base.to_owned(), zone.to_owned())).unwrap_or_else(|why| {
            self.script.complain(why);
            Value::Object(serde_json::Map::new())
        })
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        let api = Api::lend(std::mem::take(model), std::mem::take(&mut self.state));
        let called = self.script.call("answer", (Asked::of(request), api.clone()));
        let told = called.and_then(|told| {
            convert::response(&told).map_err(|why| {
                Ended::Broken(format!(
                    "{}: `answer` to {} {}: {why}",
                    self.script.place_of("answer"),
                    request.method,
                    request.path
                ))
            })
        });
        let state;
        (*model, state) = api.take_back(told.is_ok());
        // What is thrown says that nothing was done, and the state is part of that.
        self.state = state;
        match told {
            Ok(response) | Err(Ended::Thrown(response)) => response,
            Err(Ended::Broken(why)) => self.broken(why),
        }
    }

    fn is_write(&self, request: &Request) -> bool {
        self.asked("is_write", request, |told| told.as_bool().ok()).unwrap_or_else(|| request.writes())
    }

    fn refusal(&self, why: Refusal) -> Response {
        self.refused(why).unwrap_or_else(|why| self.broken(why))
    }

    fn pause(&self, request: &Request) -> Duration {
        let ms = self.asked("pause", request, |told| u64::try_from(told.as_int().ok()?).ok());
        ms.map_or(Duration::ZERO, Duration::from_millis)
    }

    fn features(&self) -> Features {
        self.script.features
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
        if !self.script.has("new_zone") {
            return;
        }
        let api = Api::lend(std::mem::take(model), Map::new());
        let called = match api.zone(name) {
            Some(zone) => self.script.call("new_zone", (zone,)),
            None => Ok(Dynamic::UNIT),
        };
        if let Err(Ended::Broken(why)) = called {
            self.script.complain(why);
        }
        (*model, _) = api.take_back(true);
    }
}

#[cfg(test)]
mod tests;

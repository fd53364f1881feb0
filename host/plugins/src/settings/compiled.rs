//! Compiled schemas: every order asks one, and compiling it takes longer than all else that the check does.
//!
//! Guarantees that a validator is that of the very schema it is asked for: they are compared whole. Bounded to
//! [`KEPT`] schemas, the one that was asked for longest ago goes first.

use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// Schemas that are kept. A host has one for each kind of plan, zone and hook: a dozen, and some more while versions change.
const KEPT: usize = 32;

/// The one asked for last is first.
static COMPILED: Mutex<Vec<(Value, Arc<Validator>)>> = Mutex::new(Vec::new());

/// The validator of a schema.
///
/// # Errors
/// It is no valid JSON Schema.
pub(super) fn validator(schema: &Value) -> Result<Arc<Validator>, ValidationError<'static>> {
    if let Some(found) = known(schema) {
        return Ok(found);
    }
    // Outside of the lock: it takes milliseconds. Two that do it at once do it twice.
    let made = Arc::new(jsonschema::validator_for(schema)?);
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    all.truncate(KEPT - 1);
    all.insert(0, (schema.clone(), Arc::clone(&made)));
    Ok(made)
}

fn known(schema: &Value) -> Option<Arc<Validator>> {
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let at = all.iter().position(|(of, _)| of == schema)?;
    all.get_mut(..=at)?.rotate_right(1);
    all.first().map(|(_, validator)| Arc::clone(validator))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_compiled_once_and_never_taken_for_another() {
        let at_most = |n: u32| json!({"type": "integer", "maximum": n, "title": "a test of compiled schemas"});
        let first = validator(&at_most(5)).unwrap();
        assert!(Arc::ptr_eq(&first, &validator(&at_most(5)).unwrap()));
        let other = validator(&at_most(6)).unwrap();
        assert!(!first.is_valid(&json!(6)) && other.is_valid(&json!(6)));
        for n in 1_000..1_000 + 2 * KEPT as u32 {
            validator(&at_most(n)).unwrap();
        }
        assert!(COMPILED.lock().unwrap().len() <= KEPT);
        assert!(!validator(&at_most(5)).unwrap().is_valid(&json!(6)));
        assert!(validator(&json!({"type": 7})).is_err());
    }
}

//! The least panel adapter: the body is the service's id, the verb is the panel's.

use wharf_sdk::panel::prelude::*;

struct Plugin;

impl Adapter for Plugin {
    fn translate(of: Hook) -> Result<Command, Failure> {
        let ref_ = of.body.trim().to_owned();
        if ref_.is_empty() {
            return Err(Failure::fix_input("body", "The body is empty: put the id of the service there."));
        }
        Ok(Command { verb: of.verb, ref_, plan: None, options: Vec::new(), facts: Vec::new(), ext: Vec::new() })
    }

    fn present(_of: Hook, what: ResultOf) -> Answer {
        let body = if what.accepted { "ok".to_owned() } else { what.customer_message };
        Answer { status: None, content_type: "text/plain".into(), body, ext: Vec::new() }
    }
}

wharf_sdk::export_panel_adapter!(Plugin);

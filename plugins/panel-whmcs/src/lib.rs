//! WHMCS: what a server module gets as `$params` becomes a command; what the host did becomes what the module returns.
//!
//! Pure. Passwords, server credentials and everything else that is not named here stay where they are: nothing is
//! handed on but the service's id, the plan's name, the configurable options and a few facts of the order.

mod params;

use serde_json::{Map, Value};
use wharf_sdk::panel::prelude::*;

struct Whmcs;

/// Verbs of the contract and the words for them in a URL; the latter also as WHMCS names its functions.
const VERBS: [(&str, &[&str]); 6] = [
    ("provision", &["create", "createaccount", "provision"]),
    ("suspend", &["suspend", "suspendaccount"]),
    ("unsuspend", &["unsuspend", "unsuspendaccount"]),
    ("terminate", &["terminate", "terminateaccount"]),
    ("change", &["changepackage", "change"]),
    ("renew", &["renew"]),
];
/// Names in `$params` that this adapter reads or leaves out knowingly. Others are told in the log by name, never by
/// value.
const KNOWN: [&str; 44] = [
    "serviceid",
    "addonId",
    "addonid",
    "userid",
    "pid",
    "domain",
    "configoptions",
    "clientsdetails",
    "customfields",
    "suspendreason",
    "accountid",
    "packageid",
    "username",
    "password",
    "producttype",
    "moduletype",
    "type",
    "producttypename",
    "server",
    "serverid",
    "serverip",
    "serverhostname",
    "serverusername",
    "serverpassword",
    "serveraccesshash",
    "serversecure",
    "serverport",
    "serverhttpprefix",
    "model",
    "action",
    "whmcsVersion",
    "templatevars",
    "eligibleForSSO",
    "status",
    "ispublic",
    "clientarea",
    "dedicatedip",
    "regdate",
    "nextduedate",
    "billingcycle",
    "paymentmethod",
    "firstpaymentamount",
    "recurringamount",
    "upgrade",
];

/// A scalar as text; none for what is empty or not a scalar.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(s) if !s.trim().is_empty() => Some(s.trim().to_owned()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// An id: digits, not zero. WHMCS sends numbers and texts alike.
fn id(value: Option<&Value>, field: &str) -> Result<Option<String>, Failure> {
    let Some(text) = text(value) else { return Ok(None) };
    if text.len() > 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Failure::fix_input(
            field,
            format!("`{field}` is not a number: it must be the id that WHMCS gave."),
        ));
    }
    let text = text.trim_start_matches('0').to_owned();
    Ok((!text.is_empty()).then_some(text))
}

fn verb_of(word: &str) -> Result<&'static str, Failure> {
    let lower = word.to_ascii_lowercase();
    VERBS.iter().find(|(_, words)| words.contains(&lower.as_str())).map(|(verb, _)| *verb).ok_or_else(|| {
        let known: Vec<_> = VERBS.iter().filter_map(|(_, words)| words.first().copied()).collect();
        Failure::fix_input("verb", format!("`{word}` is not known here: post to one of {}.", known.join(", ")))
    })
}

/// Options as ordered. `value|Display name` loses its display name; names stay as they are, `PREFIX|anything` too: the
/// host knows which setting each overrides.
fn options(params: &Map<String, Value>) -> Result<Vec<(String, String)>, Failure> {
    let list = match params.get("configoptions") {
        Some(Value::Object(list)) => list,
        // PHP has no empty object: an array without names.
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.is_empty() => return Ok(Vec::new()),
        Some(Value::String(s)) if s.is_empty() => return Ok(Vec::new()),
        Some(_) => {
            return Err(Failure::fix_input(
                "configoptions",
                "`configoptions` is not a list with names: post $params['configoptions'] as it is.",
            ));
        }
    };
    let mut out = Vec::with_capacity(list.len());
    for (name, value) in list {
        let value = match value {
            Value::String(s) => s.split('|').next().unwrap_or_default().trim().to_owned(),
            Value::Number(n) => n.to_string(),
            Value::Bool(yes) => u8::from(*yes).to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(Failure::fix_input(
                    "configoptions",
                    format!("`configoptions`: the option `{name}` holds a list. It must be a text or a number."),
                ));
            }
        };
        // Nothing chosen: the plan's own value stands.
        if !value.is_empty() {
            out.push((name.clone(), value));
        }
    }
    Ok(out)
}

/// What the panel says of the order, in the host's words.
fn facts(params: &Map<String, Value>, verb: &str) -> Result<Vec<(String, String)>, Failure> {
    let client = params.get("clientsdetails").and_then(Value::as_object);
    let of_client = |key: &str| client.and_then(|c| text(c.get(key)));
    let mut out = Vec::new();
    let mut say = |key: &str, value: Option<String>| out.extend(value.map(|v| (key.to_owned(), v)));
    let client_id = match id(params.get("userid"), "userid")? {
        Some(id) => Some(id),
        None => of_client("userid").or_else(|| of_client("id")),
    };
    say("client-id", client_id);
    let names: Vec<String> = ["firstname", "lastname"].iter().filter_map(|key| of_client(key)).collect();
    say("client-name", if names.is_empty() { of_client("companyname") } else { Some(names.join(" ")) });
    say("client-email", of_client("email"));
    say("hostname", text(params.get("domain")));
    say("product-id", id(params.get("pid"), "pid")?);
    if verb == "suspend" {
        say("reason", text(params.get("suspendreason")));
    }
    Ok(out)
}

/// The command in a hook.
fn translate(hook: &Hook) -> Result<Command, Failure> {
    let verb = verb_of(&hook.verb)?;
    let params = params::read(hook)?;
    let addon = match id(params.get("addonId"), "addonId")? {
        Some(id) => Some(id),
        None => id(params.get("addonid"), "addonid")?,
    };
    let service = id(params.get("serviceid"), "serviceid")?.ok_or_else(|| {
        Failure::fix_input("serviceid", "`serviceid` is missing: post $params as WHMCS hands it to the module.")
    })?;
    let plan = text(params.get("configoption1"));
    if plan.is_none() && matches!(verb, "provision" | "change") {
        return Err(Failure::fix_input(
            "configoption1",
            "`configoption1` is empty: choose a plan in the product's module settings.",
        ));
    }
    let known = |name: &str| KNOWN.contains(&name) || name.starts_with("configoption");
    let strange: Vec<&str> = params.keys().map(String::as_str).filter(|name| !known(name)).take(20).collect();
    if !strange.is_empty() {
        log::debug(&format!("Ignored fields of $params: {}.", strange.join(", ")));
    }
    Ok(Command {
        verb: verb.to_owned(),
        ref_: addon.map_or(service, |id| format!("addon-{id}")),
        plan,
        options: options(&params)?,
        facts: facts(&params, verb)?,
        ext: Vec::new(),
    })
}

/// `success`, or why not. What these six functions of a module return is shown to admins only (module command, queue,
/// activity log), so the admin's text goes first: it names the field and the remedy.
fn present(what: &ResultOf) -> Answer {
    let words = [&what.admin_message, &what.customer_message]
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .into_iter()
        .find(|text| !text.is_empty());
    let body = if what.accepted {
        "success".to_owned()
    } else {
        // Never an empty text: WHMCS would take the call for undecided.
        words.unwrap_or_else(|| "This could not be done, and no reason was given: look into the host's log.".to_owned())
    };
    // A refusal must not read as the word that means done.
    let body = if !what.accepted && body.eq_ignore_ascii_case("success") { format!("Error: {body}") } else { body };
    Answer { status: None, content_type: "text/plain; charset=utf-8".into(), body, ext: Vec::new() }
}

impl Adapter for Whmcs {
    fn translate(of: Hook) -> Result<Command, Failure> {
        translate(&of)
    }

    fn present(_of: Hook, what: ResultOf) -> Answer {
        present(&what)
    }
}

wharf_sdk::export_panel_adapter!(Whmcs);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order() -> Value {
        json!({
            "serviceid": 42, "addonId": 0, "userid": "7", "pid": 3, "serverid": 1, "domain": "vm1.example.com",
            "username": "u", "password": "MARKED-SECRET", "producttype": "server",
            "configoption1": "vps-small", "configoption2": "x",
            "configoptions": {"CPU": "2|2 cores", "R|Memory": 4096, "Backups": "", "IPv6": 0, "Windows": null},
            "clientsdetails": {"firstname": "Ada", "lastname": "Lovelace", "email": "ada@example.com", "password": "MARKED-SECRET"},
            "customfields": {"Root": "MARKED-SECRET"}, "serverpassword": "MARKED-SECRET", "serveraccesshash": "MARKED-SECRET",
            "newfield": "MARKED-SECRET"
        })
    }

    fn posted(verb: &str, content_type: &str, body: &str) -> Hook {
        Hook {
            panel: "shop".into(),
            verb: verb.into(),
            query: String::new(),
            headers: Vec::new(),
            content_type: content_type.into(),
            body: body.into(),
            settings: "{}".into(),
            ext: Vec::new(),
        }
    }

    fn hook(verb: &str, body: &Value) -> Hook {
        posted(verb, "application/json", &body.to_string())
    }

    #[test]
    fn an_order_becomes_a_command() {
        let command = translate(&hook("create", &order())).unwrap();
        assert_eq!((command.verb.as_str(), command.ref_.as_str()), ("provision", "42"));
        assert_eq!(command.plan.as_deref(), Some("vps-small"));
        let mut options = command.options.clone();
        options.sort();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(options, [pair("CPU", "2"), pair("IPv6", "0"), pair("R|Memory", "4096")]);
        assert_eq!(
            command.facts,
            [
                pair("client-id", "7"),
                pair("client-name", "Ada Lovelace"),
                pair("client-email", "ada@example.com"),
                pair("hostname", "vm1.example.com"),
                pair("product-id", "3"),
            ]
        );
    }

    #[test]
    fn no_secret_is_handed_on() {
        let command = translate(&hook("CreateAccount", &order())).unwrap();
        assert!(!format!("{command:?}").contains("MARKED-SECRET"));
    }

    #[test]
    fn a_form_says_the_same_as_json() {
        let body = "serviceid=42&addonId=0&userid=7&pid=3&domain=vm1.example.com&configoption1=vps-small\
            &configoptions[CPU]=2%7C2+cores&configoptions[R%7CMemory]=4096&configoptions[IPv6]=0\
            &clientsdetails[firstname]=Ada&clientsdetails[lastname]=Lovelace&clientsdetails[email]=ada%40example.com";
        let content_type = "application/x-www-form-urlencoded; charset=UTF-8";
        let mut form = translate(&posted("create", content_type, body)).unwrap();
        let mut json = translate(&hook("create", &order())).unwrap();
        form.options.sort();
        json.options.sort();
        assert_eq!(form, json);
    }

    #[test]
    fn all_verbs_are_known_by_both_names() {
        for (word, verb) in [
            ("create", "provision"),
            ("CreateAccount", "provision"),
            ("suspend", "suspend"),
            ("SuspendAccount", "suspend"),
            ("UnsuspendAccount", "unsuspend"),
            ("terminate", "terminate"),
            ("TerminateAccount", "terminate"),
            ("ChangePackage", "change"),
            ("Renew", "renew"),
        ] {
            assert_eq!(translate(&hook(word, &order())).unwrap().verb, verb);
        }
        let error = translate(&hook("explode", &order())).unwrap_err();
        assert!(error.message.contains("explode") && error.message.contains("create"));
    }

    #[test]
    fn an_add_on_has_a_reference_of_its_own() {
        let mut body = order();
        body["addonId"] = json!("9");
        assert_eq!(translate(&hook("create", &body)).unwrap().ref_, "addon-9");
    }

    #[test]
    fn a_suspension_needs_no_plan_and_carries_its_reason() {
        let body = json!({"serviceid": "42", "configoptions": [], "suspendreason": "Overdue on payment"});
        let command = translate(&hook("suspend", &body)).unwrap();
        assert_eq!(command.plan, None);
        assert_eq!(command.facts, [("reason".to_owned(), "Overdue on payment".to_owned())]);
    }

    #[test]
    fn bad_input_is_refused_by_the_name_of_its_field() {
        let with = |key: &str, value: Value| {
            let mut body = order();
            body[key] = value;
            translate(&hook("create", &body)).unwrap_err()
        };
        for (key, value) in [
            ("serviceid", json!("")),
            ("serviceid", json!("../1")),
            ("serviceid", json!(-1)),
            ("serviceid", json!("0")),
            ("pid", json!("abc")),
            ("addonId", json!("1; drop")),
            ("configoption1", json!(" ")),
            ("configoptions", json!("CPU")),
            ("configoptions", json!({"CPU": ["2"]})),
        ] {
            let failure = with(key, value);
            assert_eq!((failure.action, failure.code.as_str()), (Action::FixInput, key), "{}", failure.message);
            assert!(failure.message.contains(key));
        }
        let raw = |content_type: &str, body: &str| translate(&posted("create", content_type, body)).unwrap_err().code;
        assert_eq!(raw("application/json", "{"), "body");
        assert_eq!(raw("application/json", "[1]"), "body");
        assert_eq!(raw("text/xml", "<a/>"), "content-type");
    }

    fn result(accepted: bool, admin: &str, customer: &str) -> ResultOf {
        ResultOf {
            accepted,
            operation: None,
            phase: String::new(),
            code: String::new(),
            customer_message: customer.into(),
            admin_message: admin.into(),
            ext: Vec::new(),
        }
    }

    #[test]
    fn the_answer_is_success_or_the_reason_in_one_line() {
        assert_eq!(present(&result(true, "", "")).body, "success");
        let field = "options.CPU Coers: no such option\nremove it";
        assert_eq!(present(&result(false, field, "Sorry.")).body, "options.CPU Coers: no such option remove it");
        assert_eq!(present(&result(false, " ", "Sorry.")).body, "Sorry.");
        for odd in ["", "success"] {
            let body = present(&result(false, odd, "")).body;
            assert!(body != "success" && !body.is_empty(), "{body}");
        }
    }
}

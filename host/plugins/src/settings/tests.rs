use serde_json::json;

use super::*;

fn manifest(settings: Value) -> Manifest {
    Manifest::parse(
        json!({
            "id": "example", "name": "Example", "version": "1.0.0", "world": "dns-provider", "licence": "MIT",
            "wants": {}, "settings": settings
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap()
}

fn example() -> Manifest {
    manifest(json!({
        "type": "object",
        "required": ["size"],
        "additionalProperties": false,
        "properties": {
            "size": {"type": "integer", "minimum": 0, "maximum": 64, "x-option": {"name": "Size", "legacy": "s"}},
            "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
            "on": {"type": "boolean", "default": true, "x-option": {"name": "Switch"}},
            "net": {"type": "object", "properties": {
                "speed": {"type": "integer", "default": 100, "x-option": {"name": "Speed", "legacy": "p"}},
                "label": {"type": "string"}
            }}
        }
    }))
}

fn options(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn defaults_are_filled_in_nested_objects_too() {
    let settings = effective(&example(), &json!({"size": 1}), &options(&[])).unwrap();
    assert_eq!(settings, json!({"size": 1, "colour": "red", "on": true, "net": {"speed": 100}}));
}

#[test]
fn an_option_overrides_its_setting_and_zero_and_no_are_values() {
    let given = options(&[("Size", "0"), ("Switch", "no"), ("Speed", "7")]);
    let settings = effective(&example(), &json!({"size": 1}), &given).unwrap();
    assert_eq!(settings, json!({"size": 0, "colour": "red", "on": false, "net": {"speed": 7}}));
}

#[test]
fn the_exact_name_wins_over_the_legacy_prefix_whatever_comes_first() {
    for (a, b) in [("Size", "s|Sizes"), ("s|a", "Size")] {
        let given = options(&[(a, if a == "Size" { "2" } else { "9" }), (b, if b == "Size" { "2" } else { "9" })]);
        assert_eq!(effective(&example(), &json!({}), &given).unwrap()["size"], 2);
    }
    assert_eq!(effective(&example(), &json!({}), &options(&[("s|Any text", "5")])).unwrap()["size"], 5);
}

#[test]
fn an_option_that_no_setting_owns_is_refused_with_the_known_ones() {
    let errors = effective(&example(), &json!({"size": 1}), &options(&[("Sise", "3")])).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field, "options.Sise");
    assert!(errors[0].remedy.contains("Size, Speed, Switch"), "{}", errors[0].remedy);
}

#[test]
fn an_option_that_is_no_number_is_refused_by_name() {
    let errors = effective(&example(), &json!({"size": 1}), &options(&[("Size", "big")])).unwrap_err();
    assert_eq!(errors[0].field, "options.Size");
    assert!(errors[0].to_string().contains("a whole number"));
}

#[test]
fn a_value_out_of_range_names_its_pointer_and_the_limit() {
    let errors = effective(&example(), &json!({"size": 65}), &options(&[])).unwrap_err();
    assert_eq!((errors[0].field.as_str(), errors[0].remedy.as_str()), ("/size", "use 64 or less"));
    let errors = effective(&example(), &json!({"size": 1, "net": {"speed": "x"}}), &options(&[])).unwrap_err();
    assert_eq!(errors[0].field, "/net/speed");
}

#[test]
fn a_missing_and_an_unknown_setting_are_named() {
    let errors = effective(&example(), &json!({"siez": 1}), &options(&[])).unwrap_err();
    let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
    assert!(fields.contains(&"/size") && fields.contains(&"/siez"), "{fields:?}");
}

#[test]
fn an_empty_option_for_a_number_counts_as_not_chosen() {
    assert_eq!(effective(&example(), &json!({"size": 4}), &options(&[("Size", "")])).unwrap()["size"], 4);
}

#[test]
fn two_settings_with_one_option_are_the_authors_mistake() {
    let both = manifest(json!({"type": "object", "properties": {
        "a": {"type": "string", "x-option": {"name": "Same"}}, "b": {"type": "string", "x-option": {"name": "Same"}}
    }}));
    let errors = effective(&both, &json!({}), &options(&[])).unwrap_err();
    assert!(errors[0].remedy.contains("author"));
}

#[test]
fn secrets_are_taken_out_and_empty_or_kept_ones_change_nothing() {
    let schema = json!({"properties": {
        "url": {"type": "string"},
        "key": {"type": "string", "x-secret": true},
        "auth": {"type": "object", "properties": {"pass": {"type": "string", "x-secret": true}}}
    }});
    let mut settings = json!({"url": "u", "key": "k1", "auth": {"pass": "p1", "user": "me"}});
    let mut taken = take_secrets(&schema, &mut settings);
    taken.sort();
    assert_eq!(taken, [("auth.pass".to_owned(), "p1".to_owned()), ("key".to_owned(), "k1".to_owned())]);
    assert_eq!(settings, json!({"url": "u", "auth": {"user": "me"}}));

    for kept in [json!({"key": ""}), json!({"key": KEPT}), json!({"key": null}), json!({})] {
        let mut settings = kept;
        assert!(take_secrets(&schema, &mut settings).is_empty());
        assert_eq!(settings, json!({}));
    }
    assert_eq!(secret_slots(&schema).len(), 2);
}

#[test]
fn a_required_secret_is_not_missed_in_the_settings_because_it_is_kept_apart() {
    let schema = json!({"type": "object", "required": ["key", "url"], "properties": {
        "url": {"type": "string"}, "key": {"type": "string", "x-secret": true}
    }});
    let errors = check(&schema, &json!({}));
    assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), ["/url"]);
}

#[test]
fn a_secret_that_was_entered_in_the_wrong_field_is_not_quoted() {
    let url = json!({"type": "string", "pattern": "^https://"});
    let with_secret = json!({"properties": {"url": url, "key": {"type": "string", "x-secret": true}}});
    let errors = check(&with_secret, &json!({"url": "s3cr3t-k3y"}));
    assert_eq!(errors[0].field, "/url");
    assert!(!errors[0].to_string().contains("s3cr3t") && errors[0].to_string().contains("^https://"), "{}", errors[0]);
    // Where no secret is asked for, the value is what helps most.
    let errors = check(&json!({"properties": {"url": url}}), &json!({"url": "ftp://ns1"}));
    assert!(errors[0].message.contains("ftp://ns1"), "{}", errors[0]);
}

#[test]
fn a_wrong_setting_is_told_in_the_words_of_its_description() {
    let schema = json!({"type": "object", "required": ["url"], "additionalProperties": false, "properties": {
        "alpha": {"type": "string"}, "size": {"type": "integer"},
        "url": {"type": "string", "description": "As in https://ns1:8081.", "pattern": "^https://"}
    }});
    let told = |settings| check(&schema, &settings)[0].to_string();
    assert_eq!(told(json!({})), "/url: it is missing: give it a value (As in https://ns1:8081)");
    assert_eq!(
        told(json!({"url": "ns1"})),
        "/url: `ns1` does not have the form that is asked for: As in https://ns1:8081 (it must match ^https://)"
    );
    // Those that begin alike come first.
    assert_eq!(
        told(json!({"url": "https://x", "sizes": 1})),
        "/sizes: there is no such setting: remove it, or correct its name: there are size, alpha, url"
    );
}

//! What never gets into the audit log: values of these fields, wherever they stand. That there is one is kept, since who reads
//! the log wants to see that a variable was added.

use serde_json::Value;

/// Fields of which every value below is left out.
const SECRET_FIELDS: [&str; 9] =
    ["environment", "secret", "secret_sha256", "old_secret", "hash", "token", "password", "private_key", "body"];

/// Words that make a header or other named value secret.
const SECRET_WORDS: [&str; 7] = ["authorization", "cookie", "secret", "token", "password", "api-key", "apikey"];

/// What stands in place of a value.
const REDACTED: &str = "(redacted)";

/// The same without secrets.
pub(super) fn redacted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let secret_pair = members.get("name").and_then(Value::as_str).is_some_and(is_secret_name);
            let member = |(name, value): (String, Value)| {
                let secret = SECRET_FIELDS.contains(&name.as_str()) || (secret_pair && name == "value");
                let value = if secret { without_values(value) } else { redacted(value) };
                (name, value)
            };
            Value::Object(members.into_iter().map(member).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(redacted).collect()),
        plain => plain,
    }
}

/// Whether a name, as of a header, is one of secrets.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Keeps the names of members, and nothing of what they are.
fn without_values(value: Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, without_values(value))).collect())
        }
        _ => REDACTED.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_secret_fields_are_left_out_wherever_they_stand() {
        let canary = "canary-1";
        for (given, kept) in [
            (
                json!({ "environment": { "KEY": canary, "B": "" } }),
                json!({ "environment": { "KEY": REDACTED, "B": REDACTED } }),
            ),
            (json!({ "spec": { "environment": {} } }), json!({ "spec": { "environment": {} } })),
            (json!({ "a": [{ "secret": canary }] }), json!({ "a": [{ "secret": REDACTED }] })),
            (json!({ "secret": null, "token": [canary] }), json!({ "secret": null, "token": REDACTED })),
            (
                json!({ "target": { "response": { "body": [1, 2] } } }),
                json!({ "target": { "response": { "body": REDACTED } } }),
            ),
            (
                json!({ "add": [{ "name": "X-Api-Key", "value": canary }, { "name": "x-shop", "value": "a" }] }),
                json!({ "add": [{ "name": "X-Api-Key", "value": REDACTED }, { "name": "x-shop", "value": "a" }] }),
            ),
            (json!({ "name": "my-token", "plan": "basic" }), json!({ "name": "my-token", "plan": "basic" })),
            (json!([1, "a", null]), json!([1, "a", null])),
        ] {
            let found = redacted(given);
            assert!(!found.to_string().contains(canary), "{found}");
            assert_eq!(found, kept);
        }
    }
}

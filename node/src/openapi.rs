//! The OpenAPI 3.1 document of the HTTP door. Written by hand in `openapi.json`; a test holds it against the routes.

/// The document as served at `/openapi.json`.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::DOCUMENT;
    use crate::door::http::routes::TABLE;
    use nethical_protocol::error::Code;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("openapi.json is JSON")
    }

    #[test]
    fn paths_and_methods_are_those_of_the_router() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for method in operations.as_object().expect("operations").keys().filter(|key| *key != "parameters") {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        // A parameter that takes the rest of the path has a star for the router only.
        let path_of = |path: &str| path.replace("{*", "{");
        let routed: BTreeSet<String> =
            TABLE.iter().map(|route| format!("{} {}", route.method, path_of(route.path))).collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_is_named_once() {
        let document = document();
        let mut ids = BTreeSet::new();
        visit(&document, &mut |object| {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("references stay inside");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            if let Some(id) = object.get("operationId").and_then(Value::as_str) {
                assert!(ids.insert(id.to_owned()), "{id} twice");
            }
        });
        assert_eq!(ids.len(), TABLE.len());
    }

    #[test]
    fn the_codes_are_those_of_the_protocol() {
        let listed = document().pointer("/components/schemas/Problem/properties/code/enum").cloned();
        let codes: Vec<Value> = Code::ALL.iter().map(|code| code.as_str().into()).collect();
        assert_eq!(listed, Some(Value::Array(codes)));
    }

    fn visit(value: &Value, see: &mut impl FnMut(&serde_json::Map<String, Value>)) {
        match value {
            Value::Object(object) => {
                see(object);
                object.values().for_each(|value| visit(value, see));
            }
            Value::Array(values) => values.iter().for_each(|value| visit(value, see)),
            _ => {}
        }
    }
}

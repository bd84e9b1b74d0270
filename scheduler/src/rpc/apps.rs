//! What `ActivateApp` asks for, checked as far as it depends on nothing else. The method itself is one of `ReleaseService`.

use std::collections::BTreeMap;

use dunlin_proto::{
    ApiError,
    ids::{FunctionName, VersionNumber},
    names::AppName,
    v1,
};

use super::{functions::canary, name, routes::records};
use crate::store::{Activation, MOST_ROLLOUT_FUNCTIONS, Owner};

/// Reads the request.
pub(super) fn activation(request: v1::ActivateAppRequest, creator: &str) -> Result<Activation, ApiError> {
    let v1::ActivateAppRequest { name: app, functions, routes, keep_routes, canary_percent, validate_only } = request;
    let app: AppName = name("name", &app)?;
    if keep_routes && !routes.is_empty() {
        let message = "keep_routes leaves the routes as they are, but some are given";
        return Err(ApiError::invalid("routes", message).hint("leave one of both out"));
    }
    let records = records(&app.namespace, &Owner::App(app.app.clone()), routes, creator)?;
    let (functions, canary) = (self::functions(functions)?, canary(canary_percent, false)?);
    Ok(Activation { app, functions, routes: (!keep_routes).then_some(records), canary, validate_only })
}

/// They change in one transaction, so that there is a bound.
fn functions(wire: Vec<v1::AppFunction>) -> Result<BTreeMap<FunctionName, Option<VersionNumber>>, ApiError> {
    if wire.len() > MOST_ROLLOUT_FUNCTIONS {
        let message = format!("there are {} functions, but {MOST_ROLLOUT_FUNCTIONS} at most may be", wire.len());
        return Err(ApiError::invalid("functions", message));
    }
    let mut found = BTreeMap::new();
    for v1::AppFunction { function, version } in wire {
        let function: FunctionName = name("functions.function", &function)?;
        let version = VersionNumber::try_from(version).ok();
        if found.insert(function.clone(), version).is_some() {
            return Err(ApiError::invalid("functions.function", format!("the function {function} is there twice")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, version: u32) -> v1::AppFunction {
        v1::AppFunction { function: name.into(), version }
    }

    fn request(functions: Vec<v1::AppFunction>) -> v1::ActivateAppRequest {
        v1::ActivateAppRequest { name: "namespaces/shop/apps/till".into(), functions, ..Default::default() }
    }

    #[test]
    fn an_app_is_read_with_its_functions_and_routes() {
        let target = Some(v1::route::Target::Response(v1::StaticResponse::default()));
        let route =
            v1::Route { name: "namespaces/shop/routes/a".into(), path: "/a".into(), target, ..Default::default() };
        let whole = v1::ActivateAppRequest {
            routes: vec![v1::Route { api: "pets".into(), app: "other".into(), ..route.clone() }],
            canary_percent: Some(10),
            ..request(vec![function("pay", 7), function("mail", 0)])
        };
        let read = activation(whole, "zoe").unwrap();
        let versions: Vec<_> = read.functions.values().map(|version| version.map(VersionNumber::get)).collect();
        assert_eq!((versions, read.canary), (vec![None, Some(7)], Some(10)));
        let routes = read.routes.unwrap();
        let spec = &routes[0].spec;
        assert_eq!((&spec.api, spec.app.as_ref().unwrap().as_str(), &*routes[0].creator), (&None, "till", "zoe"));
        let keep = v1::ActivateAppRequest { keep_routes: true, ..request(vec![]) };
        assert!(activation(keep.clone(), "").unwrap().routes.is_none());
        for (wrong, field) in [
            (v1::ActivateAppRequest { routes: vec![route.clone()], ..keep }, "routes"),
            (v1::ActivateAppRequest { name: "namespaces/shop/apps/T".into(), ..request(vec![]) }, "name"),
            (v1::ActivateAppRequest { canary_percent: Some(100), ..request(vec![]) }, "canary_percent"),
            (request(vec![function("pay", 1), function("pay", 2)]), "functions.function"),
            (request(vec![function("P", 1)]), "functions.function"),
            (request((0..101).map(|n| function(&format!("f{n}"), 1)).collect()), "functions"),
            (
                v1::ActivateAppRequest {
                    routes: vec![v1::Route { name: "namespaces/bank/routes/a".into(), ..route }],
                    ..request(vec![])
                },
                "routes.name",
            ),
        ] {
            assert_eq!(activation(wrong, "").unwrap_err().field.as_deref(), Some(field));
        }
    }
}

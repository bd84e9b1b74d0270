//! What a deploy would change, were it made: of the function, and of what its version is against the one that it follows.
//!
//! Pure. Nothing is written for it.

use crate::{
    capabilities::Changes,
    model::{FunctionRecord, Share, VersionRecord, newest, text, with_canary},
    releases::{Described, Difference, of_version},
    store::NewVersion,
};

/// What a deploy would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preview {
    /// The number that the version would get, were it made now.
    pub(crate) number: u32,
    /// Field by field; none where the version is what it follows.
    pub(crate) differences: Vec<Difference>,
    /// What it may reach and imports, against the versions that have the traffic.
    pub(crate) changes: Changes,
}

impl Preview {
    /// What a deploy would change of a function, where there is one, whose calls go to `before` by and large.
    pub(crate) fn of(
        new: &NewVersion,
        function: Option<&FunctionRecord>,
        before: Option<&VersionRecord>,
        changes: Changes,
    ) -> Self {
        let subject = format!("functions/{}", new.function.function);
        let number = function.map_or(0, |function| function.latest_version).saturating_add(1);
        let mut differences = of_function(&subject, new, function, number);
        let described = Described { artifact: new.artifact, spec: &new.spec, imports: &new.imports };
        let versions = format!("{subject}/versions/{number}");
        differences.extend(of_version(&versions, before.map(Described::of).as_ref(), &described));
        Self { number, differences, changes }
    }
}

/// What changes of the function itself.
fn of_function(subject: &str, new: &NewVersion, function: Option<&FunctionRecord>, number: u32) -> Vec<Difference> {
    let said = |is: bool| is.to_string();
    let known = |read: fn(&FunctionRecord) -> String| function.map(read).unwrap_or_default();
    let (public, direct) = (known(|known| known.public.to_string()), known(|known| known.direct.to_string()));
    let unless = |asked: Option<bool>, now: &str| asked.map_or_else(|| or_false(now), said);
    let policy = if waits(new, function) { format!("{subject}/versions/{number}") } else { subject.to_owned() };
    let fields = [
        (subject, "traffic", known(|known| text(&known.traffic)), traffic(new, function, number)),
        (&policy, "public", public.clone(), unless(new.policy.public, &public)),
        (&policy, "direct", direct.clone(), unless(new.policy.direct, &direct)),
    ];
    let description = |after| (subject, "description", known(|it| it.description.clone()), after);
    let fields = fields.into_iter().chain(new.description.clone().map(description));
    fields
        .filter(|(_, _, before, after)| before != after)
        .map(|(subject, field, before, after)| Difference {
            subject: subject.to_owned(),
            field: field.to_owned(),
            before,
            after,
        })
        .collect()
}

/// Whether what it says of its function waits with the version until that has all calls.
fn waits(new: &NewVersion, function: Option<&FunctionRecord>) -> bool {
    let called = function.is_some_and(|function| !function.traffic.is_empty());
    called && (!new.activation || new.canary.is_some())
}

/// What a new function is where nobody says otherwise.
fn or_false(now: &str) -> String {
    if now.is_empty() { "false".to_owned() } else { now.to_owned() }
}

/// How the function's calls would divide.
fn traffic(new: &NewVersion, function: Option<&FunctionRecord>, number: u32) -> String {
    let before = function.map(|function| function.traffic.clone()).unwrap_or_default();
    let Some(version) = number.try_into().ok().filter(|_| new.activation) else { return text(&before) };
    let whole = vec![Share(version, 100)];
    let shares = match new.canary {
        // Where there is no place for it, that has been said before.
        Some(percent) => with_canary(&new.function, &before, version, percent).unwrap_or(before),
        None => whole,
    };
    text(&shares)
}

/// The version that a new one follows: the newest of those that have calls.
pub(crate) fn followed(versions: &[VersionRecord]) -> Option<&VersionRecord> {
    let shares: Vec<_> = versions.iter().map(|version| Share(version.number, 0)).collect();
    let newest = newest(&shares)?;
    versions.iter().find(|version| version.number == newest)
}

#[cfg(test)]
mod tests {
    use dunlin_proto::{
        ids::{Digest, FunctionUid},
        model::{Sticky, VersionSpec},
    };

    use super::*;
    use crate::model::{Kind, Policy, Time};

    fn new() -> NewVersion {
        NewVersion {
            function: "namespaces/shop/functions/pay".parse().unwrap(),
            artifact: Digest::of(b"new"),
            artifact_size: 3,
            kind: Kind::Http02,
            spec: VersionSpec::default(),
            imports: vec![],
            creator: "zoe".into(),
            note: String::new(),
            compiled_size: 1,
            activation: true,
            canary: None,
            policy: Policy::default(),
            description: None,
            capabilities: Changes::default(),
        }
    }

    fn function() -> FunctionRecord {
        FunctionRecord {
            uid: FunctionUid::new(),
            namespace: "shop".parse().unwrap(),
            name: "pay".parse().unwrap(),
            description: String::new(),
            public: true,
            direct: false,
            disabled: false,
            traffic: vec![Share(3.try_into().unwrap(), 100)],
            sticky: Sticky::default(),
            division: 0,
            seed: None,
            history: vec![],
            latest_version: 4,
            revision: 1,
            create_time: Time(1),
            update_time: Time(1),
        }
    }

    fn version(new: &NewVersion) -> VersionRecord {
        VersionRecord {
            function: new.function.clone(),
            uid: FunctionUid::new(),
            number: 3.try_into().unwrap(),
            artifact: new.artifact,
            artifact_size: 3,
            kind: new.kind,
            spec: new.spec.clone(),
            imports: new.imports.clone(),
            creator: String::new(),
            note: String::new(),
            create_time: Time(1),
            compiled_size: 1,
            activation: false,
            canary: None,
            reuse_refusal: None,
            policy: Policy::default(),
        }
    }

    fn lines(new: &NewVersion, before: Option<&VersionRecord>) -> Vec<String> {
        let known = before.is_some().then(function);
        let preview = Preview::of(new, known.as_ref(), before, Changes::default());
        let line = |it: &Difference| format!("{} {}: {} -> {}", it.subject, it.field, it.before, it.after);
        preview.differences.iter().map(line).collect()
    }

    #[test]
    fn what_a_deploy_changes_is_said_and_nothing_else() {
        let same = new();
        let old = version(&same);
        assert_eq!(lines(&same, Some(&old)), ["functions/pay traffic: v3=100 -> v5=100"]);
        assert!(lines(&NewVersion { activation: false, ..new() }, Some(&old)).is_empty());
        let canary = NewVersion { canary: Some(10), ..new() };
        assert_eq!(lines(&canary, Some(&old)), ["functions/pay traffic: v3=100 -> v3=90,v5=10"]);
        let policy = Policy { public: Some(false), direct: Some(false) };
        let mut other = NewVersion { activation: false, policy, ..new() };
        other.artifact = Digest::of(b"other");
        other.spec.environment.insert("A".to_owned(), "hidden".to_owned());
        other.spec.allowed_outbound_hosts.push("https://a.example".to_owned());
        let found = lines(&other, Some(&old));
        for expected in [
            "functions/pay/versions/5 public: true -> false",
            "functions/pay/versions/5 allowed_outbound_hosts:  -> [\"https://a.example\"]",
            "functions/pay/versions/5 environment.A:  -> a value",
        ] {
            assert!(found.iter().any(|line| line == expected), "{expected:?} is not in {found:?}");
        }
        assert!(found.len() == 4 && !found.join(" ").contains("hidden"), "{found:?}");
    }

    #[test]
    fn what_a_version_says_of_its_function_changes_with_the_calls() {
        let policy = Policy { public: Some(false), direct: None };
        let public = |new: NewVersion| {
            let found = lines(&new, Some(&version(&new)));
            found.into_iter().find(|line| line.contains(" public: ")).unwrap()
        };
        let deploy = || NewVersion { policy, ..new() };
        assert_eq!(public(deploy()), "functions/pay public: true -> false");
        for waits in [NewVersion { activation: false, ..deploy() }, NewVersion { canary: Some(10), ..deploy() }] {
            assert_eq!(public(waits), "functions/pay/versions/5 public: true -> false");
        }
        let first = NewVersion { activation: false, policy: Policy { public: Some(true), direct: None }, ..new() };
        let found = lines(&first, None);
        assert!(found.iter().any(|line| line == "functions/pay public:  -> true"), "{found:?}");
    }

    #[test]
    fn a_new_function_is_all_new() {
        let found = lines(&new(), None);
        for expected in ["functions/pay traffic:  -> v1=100", "functions/pay public:  -> false"] {
            assert!(found.iter().any(|line| line == expected), "{expected:?} is not in {found:?}");
        }
        assert!(found.iter().any(|line| line.starts_with("functions/pay/versions/1 limits.memory_bytes:  -> ")));
    }

    #[test]
    fn the_newest_version_with_calls_is_followed() {
        let mut versions = [version(&new()), version(&new())];
        versions[1].number = 7.try_into().unwrap();
        assert_eq!(followed(&versions).unwrap().number.get(), 7);
        assert!(followed(&[]).is_none());
    }
}

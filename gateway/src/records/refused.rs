//! Requests that were refused before any function ran: counted by what was asked, who asked and why it was refused, with a few
//! whole examples of each a second, and the last ones of all kinds. In memory alone, and bounded whatever callers send.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use dashmap::DashMap;
use dunlin_proto::{
    ErrorCode,
    ids::{FunctionName, GatewayId, InvocationId, Namespace},
    names::Scope,
    v1,
};

use super::{Caller, Traced, Wanted, minutes::Minutes, summary::counted};

/// Whole examples of a kind in a second.
const A_SECOND: u32 = 10;
/// Examples of a namespace, of all kinds.
const EXAMPLES: usize = 1_000;
/// The last ones of the gateway, of all namespaces and kinds, that are there whole.
const RECENT: usize = 10_000;
/// Kinds that are told apart in a namespace; what comes beyond is counted together.
const KINDS: usize = 500;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its id.
    pub(crate) id: InvocationId,
    /// The tenant that it was meant for; nothing where nobody can tell.
    pub(crate) namespace: Option<Namespace>,
    /// The function that it was meant for, where there is one.
    pub(crate) function: Option<FunctionName>,
    /// The route that took it.
    pub(crate) route: Option<Arc<str>>,
    /// Who called, where that was known by then.
    pub(crate) caller: Caller,
    /// The address that it came from.
    pub(crate) address: Option<IpAddr>,
    /// When the gateway accepted it.
    pub(crate) start_time: SystemTime,
    /// How long the gateway had it.
    pub(crate) took: Duration,
    /// HTTP method.
    pub(crate) method: String,
    /// Path, as the caller sent it, without the query.
    pub(crate) path: String,
    /// The gateway that refused it.
    pub(crate) gateway: GatewayId,
    /// Why.
    pub(crate) code: ErrorCode,
    /// The same, for people.
    pub(crate) error: String,
    /// What to do about it; may be empty.
    pub(crate) hint: String,
    /// The caller's own `X-Request-Id`.
    pub(crate) request_id: String,
    /// The trace that it belongs to; 0 where none is known.
    pub(crate) trace: u128,
    /// What its spans need.
    pub(crate) traced: Traced,
}

/// What refusals have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    function: Option<FunctionName>,
    route: Option<Arc<str>>,
    /// The id of the key that called.
    key: Option<String>,
    code: ErrorCode,
}

impl Kind {
    fn of(refusal: &Refusal) -> Self {
        let key = match &refusal.caller {
            Caller::Key(key) => Some(key.to_string()),
            _ => None,
        };
        Self { function: refusal.function.clone(), route: refusal.route.clone(), key, code: refusal.code }
    }
}

impl Kind {
    fn count(&self, count: u64) -> v1::RefusalCount {
        v1::RefusalCount {
            function: self.function.as_ref().map(ToString::to_string).unwrap_or_default(),
            route: self.route.as_deref().unwrap_or_default().to_owned(),
            key: self.key.clone().unwrap_or_default(),
            outcome: self.code.as_str().to_owned(),
            count,
        }
    }
}

/// How often, and how many examples there are of this second.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    /// Of these, the last ones by their time.
    lately: Minutes,
    second: u64,
    examples: u32,
}

impl Tally {
    /// Counts one that came then; says whether it is to be an example of its second.
    fn count(&mut self, time: SystemTime) -> bool {
        let second = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.count += 1;
        self.lately.add(time, 1);
        if self.second != second {
            (self.second, self.examples) = (second, 0);
        }
        self.examples += 1;
        self.examples <= A_SECOND
    }
}

/// The refusals of a namespace.
#[derive(Debug, Default)]
struct Book {
    kinds: HashMap<Kind, Tally>,
    /// What is beyond the kinds that are told apart.
    rest: Tally,
    examples: VecDeque<Arc<Refusal>>,
}

impl Book {
    fn add(&mut self, refusal: &Arc<Refusal>) {
        let kind = Kind::of(refusal);
        let has_room = self.kinds.len() < KINDS || self.kinds.contains_key(&kind);
        let tally = if has_room { self.kinds.entry(kind).or_default() } else { &mut self.rest };
        if tally.count(refusal.start_time) {
            if self.examples.len() >= EXAMPLES {
                self.examples.pop_front();
            }
            self.examples.push_back(refusal.clone());
        }
    }
}

/// The refusals of all namespaces, and of requests that were for none.
#[derive(Debug, Default)]
pub(super) struct Refused {
    books: DashMap<Option<Namespace>, Arc<Mutex<Book>>>,
    recent: Mutex<VecDeque<Arc<Refusal>>>,
}

impl Refused {
    /// Counts one, and keeps it: for a while, and for longer where there are few like it.
    pub(super) fn add(&self, refusal: Refusal) {
        let refusal = Arc::new(refusal);
        let book = self.books.entry(refusal.namespace.clone()).or_default().clone();
        book.lock().unwrap_or_else(PoisonError::into_inner).add(&refusal);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropped once nobody waits for the others any more.
        let _oldest = (recent.len() >= RECENT).then(|| recent.pop_front());
        recent.push_back(refusal);
        drop(recent);
    }

    fn book(&self, scope: &Scope) -> Option<Arc<Mutex<Book>>> {
        self.books.get(&Some(scope.namespace.clone())).map(|book| book.clone())
    }

    /// Those that are wanted, the newest first.
    pub(super) fn list(&self, scope: &Scope, wanted: &Wanted) -> Vec<Arc<Refusal>> {
        let of_function = |refusal: &Refusal| scope.function.is_none() || refusal.function == scope.function;
        self.found(Some(&scope.namespace), |refusal| of_function(refusal) && wanted.holds_refusal(refusal))
    }

    /// The same of requests that were for no namespace that there is.
    pub(super) fn of_nobody(&self, wanted: &Wanted) -> Vec<Arc<Refusal>> {
        self.found(None, |refusal| wanted.holds_refusal(refusal))
    }

    fn found(&self, namespace: Option<&Namespace>, wanted: impl Fn(&Refusal) -> bool) -> Vec<Arc<Refusal>> {
        let is_wanted = |refusal: &&Arc<Refusal>| refusal.namespace.as_ref() == namespace && wanted(refusal);
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = recent.iter().filter(is_wanted).cloned().collect();
        drop(recent);
        if let Some(book) = self.books.get(&namespace.cloned()).map(|book| book.clone()) {
            let book = book.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(book.examples.iter().filter(is_wanted).cloned());
        }
        found.sort_unstable_by_key(|refusal| Reverse(refusal.id));
        found.dedup_by_key(|refusal| refusal.id);
        found
    }

    /// How often requests of a function were refused from a time on, by why.
    pub(super) fn since(&self, scope: &Scope, time: SystemTime) -> Vec<v1::OutcomeCount> {
        let Some(book) = self.book(scope) else { return Vec::new() };
        let book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = BTreeMap::<&str, u64>::new();
        for (kind, tally) in book.kinds.iter().filter(|(kind, _)| kind.function == scope.function) {
            *sums.entry(kind.code.as_str()).or_default() += tally.lately.since(time);
        }
        sums.into_iter().filter(|(_, count)| *count > 0).map(|(code, count)| counted(code, count)).collect()
    }

    /// How often requests were refused; those that are not told apart any more are counted as of nobody.
    pub(super) fn counts(&self, scope: &Scope) -> Vec<v1::RefusalCount> {
        let Some(book) = self.book(scope) else { return Vec::new() };
        let book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let of_function = |kind: &Kind| scope.function.is_none() || kind.function == scope.function;
        let kinds = book.kinds.iter().filter(|(kind, _)| of_function(kind));
        let rest = (book.rest.count > 0 && scope.function.is_none()).then(|| v1::RefusalCount {
            outcome: "other".to_owned(),
            count: book.rest.count,
            ..Default::default()
        });
        kinds.map(|(kind, tally)| kind.count(tally.count)).chain(rest).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn refusal(function: &str, second: u64) -> Refusal {
        Refusal {
            id: InvocationId::new(),
            namespace: Some("shop".parse().unwrap()),
            function: Some(function.parse().unwrap()),
            route: None,
            caller: Caller::Anybody,
            address: None,
            start_time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            took: Duration::from_micros(20),
            method: "GET".into(),
            path: "/".into(),
            gateway: "gateway".parse().unwrap(),
            code: ErrorCode::Unauthenticated,
            error: "no credential".into(),
            hint: String::new(),
            request_id: "mine".into(),
            trace: 0,
            traced: Traced::default(),
        }
    }

    fn listed(refused: &Refused, scope: &str, request_id: &str) -> usize {
        let request = v1::ListInvocationsRequest { request_id: request_id.into(), ..Default::default() };
        refused.list(&scope.parse().unwrap(), &Wanted::try_from(&request).unwrap()).len()
    }

    /// Forgets all but examples.
    fn later(refused: &Refused) {
        refused.recent.lock().unwrap().clear();
    }

    #[test]
    fn of_each_kind_a_few_a_second_are_examples_and_all_are_counted() {
        let refused = Refused::default();
        (0..50).for_each(|n| refused.add(refusal("pay", n / 25)));
        refused.add(refusal("cart", 1));
        assert_eq!(listed(&refused, "namespaces/shop", "mine"), 51);
        later(&refused);
        assert_eq!(listed(&refused, "namespaces/shop", "mine"), 21);
        assert_eq!(listed(&refused, "namespaces/shop/functions/cart", "mine"), 1);
        let counts = |scope: &str| {
            let mut counts = refused.counts(&scope.parse().unwrap());
            counts.sort_unstable_by_key(|count| count.count);
            counts.into_iter().map(|c| format!("{} {} {}", c.function, c.outcome, c.count)).collect::<Vec<_>>()
        };
        assert_eq!(counts("namespaces/shop"), ["cart unauthenticated 1", "pay unauthenticated 50"]);
        assert_eq!(counts("namespaces/shop/functions/pay"), ["pay unauthenticated 50"]);
        assert!(counts("namespaces/bank").is_empty());
        let pay = "namespaces/shop/functions/pay".parse().unwrap();
        let since = |second| refused.since(&pay, SystemTime::UNIX_EPOCH + Duration::from_secs(second));
        assert_eq!(
            since(0).iter().map(|of| (of.outcome.as_str(), of.count)).collect::<Vec<_>>(),
            [("unauthenticated", 50)]
        );
        assert!(since(60).is_empty());
    }

    #[test]
    fn one_is_found_by_its_id_in_its_own_namespace_and_not_shown_unasked() {
        let (refused, one) = (Refused::default(), refusal("pay", 1));
        refused.add(one.clone());
        assert_eq!(listed(&refused, "namespaces/shop", &one.id.to_string()), 1);
        assert_eq!(listed(&refused, "namespaces/bank", &one.id.to_string()), 0);
        assert_eq!(listed(&refused, "namespaces/shop", ""), 0);
        assert_eq!(listed(&refused, "namespaces/shop", "other"), 0);
    }

    #[test]
    fn one_for_no_namespace_is_no_namespaces() {
        let (refused, one) = (Refused::default(), Refusal { namespace: None, function: None, ..refusal("pay", 1) });
        refused.add(one.clone());
        refused.add(refusal("pay", 1));
        assert_eq!(listed(&refused, "namespaces/shop", &one.id.to_string()), 0);
        let wanted = |request_id: String| {
            let request = v1::ListInvocationsRequest { request_id, ..Default::default() };
            let found = refused.of_nobody(&Wanted::try_from(&request).unwrap());
            found.into_iter().map(|refusal| refusal.id).collect::<Vec<_>>()
        };
        assert_eq!(wanted(one.id.to_string()), [one.id]);
        assert!(wanted("other".to_owned()).is_empty());
        later(&refused);
        assert_eq!(wanted(one.id.to_string()), [one.id]);
    }

    #[test]
    fn who_looks_for_a_status_or_a_key_finds_refusals() {
        let (refused, key) = (Refused::default(), "0123456789ab");
        let one = Refusal { caller: Caller::Key(key.parse().unwrap()), ..refusal("pay", 1) };
        refused.add(one);
        let found = |change: v1::ListInvocationsRequest| {
            refused.list(&"namespaces/shop".parse().unwrap(), &Wanted::try_from(&change).unwrap()).len()
        };
        let query = v1::ListInvocationsRequest::default;
        for (change, expected) in [
            (v1::ListInvocationsRequest { status: "401".into(), ..query() }, 1),
            (v1::ListInvocationsRequest { status: "4xx".into(), ..query() }, 1),
            (v1::ListInvocationsRequest { status: "403".into(), ..query() }, 0),
            (v1::ListInvocationsRequest { key: key.into(), ..query() }, 1),
            (v1::ListInvocationsRequest { status: "401".into(), failed_only: true, ..query() }, 0),
            (v1::ListInvocationsRequest { version: 1, status: "401".into(), ..query() }, 0),
            (query(), 0),
        ] {
            assert_eq!(found(change.clone()), expected, "{change:?}");
        }
    }

    #[test]
    fn whatever_callers_send_takes_bounded_memory() {
        let refused = Refused::default();
        for second in 0..2 * EXAMPLES as u64 {
            let key = Caller::Key(format!("{second:012}").parse().unwrap());
            refused.add(Refusal { caller: key, ..refusal("pay", second) });
        }
        (0..RECENT).for_each(|_| refused.add(Refusal { namespace: None, ..refusal("pay", 1) }));
        assert_eq!(refused.recent.lock().unwrap().len(), RECENT);
        let shop = refused.books.get(&Some("shop".parse().unwrap())).unwrap().clone();
        let book = shop.lock().unwrap();
        assert_eq!((book.kinds.len(), book.examples.len()), (KINDS, EXAMPLES));
        let rest = book.rest.count;
        drop(book);
        assert_eq!(rest, (2 * EXAMPLES - KINDS) as u64);
        let counts = refused.counts(&"namespaces/shop".parse().unwrap());
        assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 2 * EXAMPLES as u64);
        assert_eq!(counts.last().map(|count| count.outcome.as_str()), Some("other"));
    }
}

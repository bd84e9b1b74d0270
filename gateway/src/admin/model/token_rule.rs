//! What a route demands of tokens, as administration shows it and takes it in.

use dunlin_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a caller's token must say beside what every token for the namespace must: all of this.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRule {
    /// One of these issued it; empty means any that the gateways trust.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) issuers: Vec<String>,
    /// It is for one of these.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) audiences: Vec<String>,
    /// It has all of these, in `scope` or `scp`.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) scopes: Vec<String>,
    /// It has all of these claims.
    #[serde(default)]
    #[schema(max_items = 20, required = false)]
    pub(crate) claims: Vec<ClaimRule>,
}

/// A claim that a token must have.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimRule {
    /// Its name at the top of the token.
    #[schema(min_length = 1, max_length = 256, example = "department")]
    pub(crate) name: String,
    /// It is, or as a list it has, one of these.
    #[schema(min_items = 1, max_items = 20)]
    pub(crate) values: Vec<String>,
}

impl From<v1::TokenRule> for TokenRule {
    fn from(v1::TokenRule { issuers, audiences, scopes, claims }: v1::TokenRule) -> Self {
        let claim = |v1::ClaimRule { name, values }| ClaimRule { name, values };
        Self { issuers, audiences, scopes, claims: claims.into_iter().map(claim).collect() }
    }
}

impl From<TokenRule> for v1::TokenRule {
    fn from(TokenRule { issuers, audiences, scopes, claims }: TokenRule) -> Self {
        let claim = |ClaimRule { name, values }| v1::ClaimRule { name, values };
        Self { issuers, audiences, scopes, claims: claims.into_iter().map(claim).collect() }
    }
}

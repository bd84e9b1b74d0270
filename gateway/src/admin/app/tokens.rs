//! Tokens: who the caller is, and new ones that grant no more than the caller's own.

use dunlin_proto::{
    ApiError, ErrorCode,
    ids::Namespace,
    names::{NamespaceRef, VersionName},
    v1::{self, TokenPurpose},
};

use super::{App, ask, name, on_behalf};
use crate::{
    admin::access::Operation,
    auth::{Principal, Role},
};

impl App {
    pub(crate) async fn token_create(
        &self,
        who: &Principal,
        request: v1::CreateTokenRequest,
    ) -> Result<v1::CreateTokenResponse, ApiError> {
        may_create(who, &request)?;
        ask(self.context.scheduler.tokens().create_token(on_behalf(who, request))).await
    }

    /// Says who somebody is; nobody else needs to be asked.
    pub(crate) fn identity_get(&self, who: &Principal) -> Result<v1::GetIdentityResponse, ApiError> {
        Operation::GetIdentity.allow(who)?;
        let grants = who.grants.iter().map(|grant| v1::RoleGrant {
            namespace: grant.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            role: to_wire(grant.role).into(),
        });
        Ok(v1::GetIdentityResponse {
            subject: who.subject.clone(),
            issuer: who.issuer.clone(),
            grants: grants.collect(),
            expire_time: Some(who.expires.into()),
            issue_time: who.issued.map(Into::into),
            token_id: who.token_id.clone(),
            address: who.origin.address.clone(),
        })
    }
}

fn to_wire(role: Role) -> v1::Role {
    match role {
        Role::Viewer => v1::Role::Viewer,
        Role::Developer => v1::Role::Developer,
        Role::Admin => v1::Role::Admin,
        Role::Operator => v1::Role::Operator,
    }
}

fn from_wire(role: v1::Role) -> Option<Role> {
    match role {
        v1::Role::Unspecified => None,
        v1::Role::Viewer => Some(Role::Viewer),
        v1::Role::Developer => Some(Role::Developer),
        v1::Role::Admin => Some(Role::Admin),
        v1::Role::Operator => Some(Role::Operator),
    }
}

/// Whether somebody may make such a token: in each namespace that it is for they manage tokens, and have that role.
fn may_create(who: &Principal, request: &v1::CreateTokenRequest) -> Result<(), ApiError> {
    match request.purpose() {
        TokenPurpose::Call => {
            let NamespaceRef { namespace } = name("parent", &request.parent)?;
            Operation::CreateToken.allow_in(who, &namespace)
        }
        TokenPurpose::Preview => {
            let VersionName { namespace, .. } = name("parent", &request.parent)?;
            who.require(&namespace, Role::Developer)
        }
        TokenPurpose::Administration if request.grants.is_empty() => {
            Err(ApiError::invalid("grants", "an administration token needs one grant at least"))
        }
        TokenPurpose::Administration => request.grants.iter().try_for_each(|grant| may_grant(who, grant)),
        TokenPurpose::Unspecified => {
            Err(ApiError::invalid("purpose", "purpose must be administration, call or preview"))
        }
    }
}

fn may_grant(who: &Principal, grant: &v1::RoleGrant) -> Result<(), ApiError> {
    let role = from_wire(grant.role())
        .ok_or_else(|| ApiError::invalid("grants.role", "role must be viewer, developer, admin or operator"))?;
    match (role, grant.namespace.is_empty()) {
        (Role::Operator, true) => Operation::CreateToken.allow(who),
        (Role::Operator, false) => {
            Err(ApiError::invalid("grants.namespace", "the role operator is for the whole cluster: leave it empty"))
        }
        (_, true) => Err(ApiError::invalid("grants.namespace", format!("the role {role} needs a namespace"))),
        (_, false) => may_grant_in(who, &name("grants.namespace", &grant.namespace)?, role),
    }
}

fn may_grant_in(who: &Principal, namespace: &Namespace, role: Role) -> Result<(), ApiError> {
    Operation::CreateToken.allow_in(who, namespace)?;
    match who.role_in(namespace) {
        Some(own) if own >= role => Ok(()),
        _ => {
            who.note("token.create", Some(namespace), true);
            let message = format!("a token can't grant {role} in {namespace}, which is more than your own does");
            Err(ApiError::new(ErrorCode::PermissionDenied, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::auth::Grant;

    fn who(grants: &[(&str, Role)]) -> Principal {
        let grant = |(namespace, role): &(&str, Role)| Grant { namespace: namespace.parse().ok(), role: *role };
        Principal {
            subject: "ada".into(),
            issuer: "dunlin".into(),
            expires: SystemTime::UNIX_EPOCH,
            issued: None,
            grants: grants.iter().map(grant).collect(),
            token_id: String::new(),
            origin: crate::auth::Origin::default(),
        }
    }

    fn administration(grants: &[(&str, v1::Role)]) -> v1::CreateTokenRequest {
        let grant = |(namespace, role): &(&str, v1::Role)| v1::RoleGrant {
            namespace: (*namespace).to_owned(),
            role: (*role).into(),
        };
        v1::CreateTokenRequest {
            purpose: TokenPurpose::Administration.into(),
            grants: grants.iter().map(grant).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn t46_a_token_grants_no_more_than_its_maker_has() {
        let code = |who: &Principal, grants: &[(&str, v1::Role)]| {
            may_create(who, &administration(grants)).err().map(|error| error.code)
        };
        let admin = who(&[("shop", Role::Admin), ("bank", Role::Viewer)]);
        assert_eq!(code(&admin, &[("shop", v1::Role::Admin)]), None);
        assert_eq!(code(&admin, &[("shop", v1::Role::Viewer)]), None);
        assert_eq!(code(&admin, &[("", v1::Role::Operator)]), Some(ErrorCode::PermissionDenied));
        assert_eq!(code(&admin, &[("bank", v1::Role::Viewer)]), Some(ErrorCode::PermissionDenied));
        assert_eq!(code(&admin, &[("dark", v1::Role::Viewer)]), Some(ErrorCode::NotFound));
        let sneaky = [("shop", v1::Role::Viewer), ("dark", v1::Role::Viewer)];
        assert_eq!(code(&admin, &sneaky), Some(ErrorCode::NotFound));
        for bad in [("", v1::Role::Viewer), ("shop", v1::Role::Operator), ("../", v1::Role::Viewer)] {
            assert_eq!(code(&admin, &[bad]), Some(ErrorCode::InvalidArgument), "{bad:?}");
        }
        assert_eq!(code(&admin, &[("shop", v1::Role::Unspecified)]), Some(ErrorCode::InvalidArgument));
        assert_eq!(code(&admin, &[]), Some(ErrorCode::InvalidArgument));
        let operator = who(&[("", Role::Operator)]);
        assert_eq!(code(&operator, &[("", v1::Role::Operator), ("any", v1::Role::Admin)]), None);
    }

    #[test]
    fn t46_call_tokens_need_the_role_admin_in_their_namespace() {
        let request = |parent: &str| v1::CreateTokenRequest {
            purpose: TokenPurpose::Call.into(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        let code = |role, parent: &str| may_create(&who(&[("shop", role)]), &request(parent)).err().map(|e| e.code);
        assert_eq!(code(Role::Admin, "namespaces/shop"), None);
        assert_eq!(code(Role::Developer, "namespaces/shop"), Some(ErrorCode::PermissionDenied));
        assert_eq!(code(Role::Admin, "namespaces/bank"), Some(ErrorCode::NotFound));
        assert_eq!(code(Role::Admin, "shop"), Some(ErrorCode::InvalidArgument));
        assert!(may_create(&who(&[]), &v1::CreateTokenRequest::default()).is_err());
    }

    #[test]
    fn t46_links_need_the_role_developer_in_the_namespace_of_their_version() {
        let code = |role, parent: &str| {
            let purpose = TokenPurpose::Preview.into();
            let request = v1::CreateTokenRequest { purpose, parent: parent.to_owned(), ..Default::default() };
            may_create(&who(&[("shop", role)]), &request).err().map(|error| error.code)
        };
        assert_eq!(code(Role::Developer, "namespaces/shop/functions/pay/versions/7"), None);
        let denied = code(Role::Viewer, "namespaces/shop/functions/pay/versions/7");
        assert_eq!(denied, Some(ErrorCode::PermissionDenied));
        assert_eq!(code(Role::Admin, "namespaces/bank/functions/pay/versions/7"), Some(ErrorCode::NotFound));
        assert_eq!(code(Role::Admin, "namespaces/shop"), Some(ErrorCode::InvalidArgument));
    }
}

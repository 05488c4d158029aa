//! The settings that a reload replaces, from the configuration.

use super::responses;
use crate::auth::attempts::Allowed;
use crate::auth::factor_policy::FactorPolicy;
use crate::auth::token::TokenKeys;
use crate::config::{Config, Environment, ServerRole};
use crate::control::ControlSettings;
use crate::control::access::{Access, MetricsToken};
use crate::ids::UserId;
use crate::mesh::live::LiveSettings;
use std::sync::Arc;

/// Those of a configuration. `websockets`: as many of them as the process has room for.
pub(super) fn settings(config: &Config, keys: TokenKeys, version: u64, websockets: usize) -> ControlSettings {
    let mut limits = config.limits();
    limits.max_connections = websockets;
    let security = &config.security;
    let live = LiveSettings {
        version,
        limits,
        factor_policy: factor_policy(config),
        keys: Arc::new(keys),
        allowed_origins: security.allowed_origins.clone(),
        access_lifetime_seconds: security.jwt_access_duration.as_secs() as i64,
        refresh_lifetime_seconds: security.jwt_refresh_duration.as_secs() as i64,
    };
    ControlSettings {
        live: Arc::new(live),
        access: access(config),
        allowed_attempts: Allowed {
            sign_ins_per_minute: security.sign_ins_per_minute,
            registrations_per_minute: security.registrations_per_minute,
        },
        responses: responses::policy(&config.responses, admins(config)),
    }
}

fn admins(config: &Config) -> Vec<UserId> {
    config.security.admin_user_ids.iter().map(|id| UserId(*id as i64)).collect()
}

fn factor_policy(config: &Config) -> FactorPolicy {
    let required = &config.security.two_factor_required;
    FactorPolicy {
        admins: admins(config),
        of_admins: required.contains(&ServerRole::Admin),
        of_members: required.contains(&ServerRole::Member),
    }
}

fn access(config: &Config) -> Access {
    match config.server.environment {
        Environment::Development => Access::Everyone,
        Environment::Staging | Environment::Production => {
            let metrics_token = config.server.metrics_token.as_ref().map(|token| MetricsToken::new(token.expose()));
            Access::Operators { admins: admins(config), metrics_token }
        }
    }
}

//! The logins of the three roles: who creates them, which password they have, and what they can become.
//!
//! Invariant: a connection of the running server belongs to a login of its own, `chat_owner`, `chat_app` or
//! `chat_writer`, and the last two are members of no other role. If one login took on all three, a statement that a
//! user smuggled in could take on another one, or with a superuser's login run programs: `SET ROLE NONE` needs no
//! password. So the server does not start with such logins.
//!
//! - The private PostgreSQL asks for no password: it believes the kernel about who is at the other end of its socket
//!   ([`super::embedded`]).
//! - For `database.url` the passwords are configured, or derived from the server's secret and given to the roles here.
//!   The user of the URL then needs the right to create roles; it is used for the set-up, and to reserve the database.

use super::StorageError;
use super::connect::{Role, Target, connect};
use super::sql::logins as sql;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Creates the roles where they are missing and gives them their passwords.
///
/// # Errors
/// [`StorageError::Setup`] when the login of `database.url` may not, and [`StorageError::Unsafe`] when PostgreSQL does
/// not accept a role's password; both say what to do.
pub async fn prepare(target: &Target, login: &Client) -> Result<(), StorageError> {
    login.batch_execute(sql::CREATE_ROLES).await.map_err(|source| StorageError::Setup {
        what: "creating the logins chat_owner, chat_app and chat_writer (the user in database.url must be allowed to \
               create roles, or an administrator runs the statements of docs/configuration.md, \"Database logins\")",
        source,
    })?;
    for role in Role::ALL {
        match connect(&target.config(role)).await {
            Err(error) if is_refused(&error) => give_password(target, login, role).await?,
            outcome => drop(outcome.map_err(StorageError::Connect)?),
        }
    }
    Ok(())
}

/// A connection as one of the roles.
///
/// # Errors
/// [`StorageError::Unsafe`] when PostgreSQL does not let it log in, and [`StorageError::Connect`].
pub async fn connect_as(target: &Target, role: Role) -> Result<Client, StorageError> {
    connect(&target.config(role)).await.map_err(|error| {
        if is_refused(&error) { refused(role, &super::reason(&error)) } else { StorageError::Connect(error) }
    })
}

fn is_refused(error: &tokio_postgres::Error) -> bool {
    let refusals = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
    error.code().is_some_and(|code| refusals.contains(code))
}

fn refused(role: Role, why: &str) -> StorageError {
    StorageError::Unsafe(format!(
        "PostgreSQL does not let {} log in: {why}; set its password in database.{}_password, or let the user of \
         database.url create roles (docs/configuration.md, \"Database logins\")",
        role.name(),
        role.setting()
    ))
}

/// Gives a role the derived password. PostgreSQL receives only what it stores: its log may contain the statement.
async fn give_password(target: &Target, login: &Client, role: Role) -> Result<(), StorageError> {
    let Some(verifier) = target.derived_verifier(role) else {
        return Err(refused(role, "its password is another one than the configured one"));
    };
    let set = login.batch_execute(&sql::set_password(role.name(), &verifier)).await;
    set.map_err(|error| refused(role, &super::reason(&error)))?;
    tracing::info!("gave the database login {} a password derived from the server's secret", role.name());
    connect_as(target, role).await.map(drop)
}

/// Refuses a login that is, or can become, more than its role.
///
/// # Errors
/// [`StorageError::Unsafe`] with what to change.
pub async fn check(client: &Client, role: Role) -> Result<(), StorageError> {
    let setup = |source| StorageError::Setup { what: "checking the database logins", source };
    let name = role.name();
    let row = client.query_one(sql::ATTRIBUTES, &[]).await.map_err(setup)?;
    let (login, current): (String, String) = (row.try_get(0).map_err(setup)?, row.try_get(1).map_err(setup)?);
    let attributes: Vec<String> = row.try_get(2).map_err(setup)?;
    if login != name || current != name {
        return Err(StorageError::Unsafe(format!(
            "connections of {name} log in as {login} and are {current}: PostgreSQL must let {name} log in by itself"
        )));
    }
    if !attributes.is_empty() {
        let revoked: Vec<String> = attributes.iter().map(|attribute| format!("NO{attribute}")).collect();
        return Err(StorageError::Unsafe(format!(
            "the login {name} has more rights than the server may have ({}): ALTER ROLE {name} {}",
            attributes.join(", "),
            revoked.join(" ")
        )));
    }
    let mut others = Vec::new();
    for row in client.query(sql::CAN_BECOME, &[]).await.map_err(setup)? {
        others.push(row.try_get::<_, String>(0).map_err(setup)?);
    }
    // The owner may belong to a role that an administrator uses to own the database. It must not become a superuser.
    let powerful = row.try_get::<_, bool>(3).map_err(setup)?;
    if (role != Role::Owner && !others.is_empty()) || powerful {
        return Err(StorageError::Unsafe(format!(
            "the login {name} can become {}: REVOKE {} FROM {name}",
            others.join(", "),
            others.join(", ")
        )));
    }
    Ok(())
}

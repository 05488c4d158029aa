//! PostgreSQL: given, or the private one of a server that runs. Doctor starts none.

use super::diagnosis::Diagnosis;
use super::report::{DoctorReport, TIME_MAX, in_time, too_slow};
use crate::boot::error::BootError;
use crate::boot::secret;
use crate::config::Config;
use crate::storage::StorageError;
use crate::storage::connect::{Role, RolePassword, Target, connect};
use crate::storage::embedded::{self, Running};
use crate::storage::examine::{RoleState, role_state, round_trips};
use crate::storage::logins::connect_as;
use crate::storage::migrate::{self, Plan};
use crate::storage::safety::{SafetySettings, check_role};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Client;

const CHECK: &str = "postgresql";
const ROUND_TRIPS: usize = 10;
/// A commit waits for one round trip at least. With a slower one, users notice it.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(10);
const OVERLOADED: &str = "see whether PostgreSQL is overloaded, or waits for locks";

/// The connection that was used, if there is one.
pub(super) async fn examine(config: &Config, report: &mut DoctorReport) -> Option<Client> {
    let given = given(config);
    let (target, address, running) = match given {
        Ok(Some(target)) => {
            let address = target.address();
            (target, address, None)
        }
        Ok(None) => match private(config) {
            Ok(running) => {
                let address = format!("the private one in {}", config.data_dir.display());
                (running.target(), address, Some(running))
            }
            Err(finding) => {
                report.add(&finding);
                return None;
            }
        },
        Err(error) => {
            report.add(&Diagnosis::error(CHECK, &error));
            return None;
        }
    };
    let advice = if running.is_some() {
        "run doctor as the user that runs the server, and see postgres.log in data_dir"
    } else {
        "start it, or correct database.url"
    };
    let client = match reach(&target, &address, advice).await {
        Ok((client, finding)) => {
            report.add(&finding);
            client
        }
        Err(finding) => {
            report.add(&finding);
            return None;
        }
    };
    for finding in settings(&client).await {
        report.add(&finding);
    }
    let logins = timeout(TIME_MAX, logins(config, &target, &client)).await;
    let (finding, owner_logs_in) = logins.unwrap_or_else(|_| (too_slow("logins", OVERLOADED), false));
    report.add(&finding);
    if owner_logs_in {
        let examined = async {
            match migrate::plan(&target).await {
                Ok(plan) => migrations(&plan, config.database.auto_migrate),
                Err(error) => Diagnosis::error("migrations", &error),
            }
        };
        report.add(&in_time("migrations", OVERLOADED, examined).await);
    }
    drop(running); // its folder is open until here
    Some(client)
}

/// The PostgreSQL of `database.url`. A secret that the server has not made yet is not made here.
fn given(config: &Config) -> Result<Option<Target>, BootError> {
    let Some(url) = &config.database.url else { return Ok(None) };
    let passwords = if secret::has_secret(config) {
        secret::database_passwords(config)?
    } else {
        [const { RolePassword::None }; 3]
    };
    Ok(Some(Target::from_url(url.expose(), passwords)?))
}

/// The private PostgreSQL, if it runs.
fn private(config: &Config) -> Result<Running, Diagnosis> {
    let programs = embedded::find_programs().map_err(|error| {
        Diagnosis::fault(CHECK, error.to_string(), "install PostgreSQL's server programs, or set database.url")
    })?;
    embedded::running(&config.data_dir).ok_or_else(|| {
        let (folder, programs) = (config.data_dir.display(), programs.display());
        let found = if embedded::is_initialised(&config.data_dir) {
            format!("the private one in {folder} does not run; the server starts it with the programs in {programs}")
        } else {
            format!(
                "there is no private one in {folder} that this user can read; the server makes it with the programs \
                     in {programs}"
            )
        };
        Diagnosis::ok(CHECK, found)
    })
}

async fn reach(target: &Target, address: &str, advice: &str) -> Result<(Client, Diagnosis), Diagnosis> {
    // The roles' connections have this setting too, whatever is the default of the database.
    let connecting = async { connect(&target.reservation("veza doctor", "-c synchronous_commit=on")).await };
    let connected = timeout(TIME_MAX, connecting).await.map_err(|_| too_slow(CHECK, advice))?;
    let client = connected
        .map_err(|error| Diagnosis::fault(CHECK, format!("{address}: {}", StorageError::Connect(error)), advice))?;
    let measured = timeout(TIME_MAX, round_trips(&client, ROUND_TRIPS)).await;
    let times = measured.map_err(|_| too_slow(CHECK, OVERLOADED))?;
    let times = times.map_err(|error| Diagnosis::error(CHECK, &error))?;
    Ok((client, speed(address, &times)))
}

/// `times`, the shortest first.
fn speed(address: &str, times: &[Duration]) -> Diagnosis {
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let found =
        format!("{address}: {} round trips, median {:.2} ms, worst {:.2} ms", times.len(), ms(median), ms(worst));
    if median > ROUND_TRIP_MAX {
        return Diagnosis::warning(CHECK, found, "move PostgreSQL nearer: each commit waits for a round trip");
    }
    Diagnosis::ok(CHECK, found)
}

async fn settings(client: &Client) -> Vec<Diagnosis> {
    let settings = match timeout(TIME_MAX, SafetySettings::read(client)).await {
        Ok(Ok(settings)) => settings,
        Ok(Err(error)) => return vec![Diagnosis::error("version", &error)],
        Err(_) => return vec![too_slow("version", OVERLOADED)],
    };
    let version = match settings.require_supported() {
        Ok(()) => Diagnosis::ok("version", format!("PostgreSQL {}", settings.version())),
        Err(error) => Diagnosis::fault("version", error.to_string(), "update PostgreSQL"),
    };
    let durability = match settings.require_durable() {
        Ok(()) => Diagnosis::ok("durability", "fsync, full_page_writes and synchronous_commit are not off"),
        Err(error) => Diagnosis::error("durability", &error),
    };
    vec![version, durability]
}

/// Whether the three roles can log in, and have no more rights than they need; and whether the owner can log in.
async fn logins(config: &Config, target: &Target, client: &Client) -> (Diagnosis, bool) {
    let check = "logins";
    let state = match role_state(client).await {
        Ok(state) => state,
        Err(error) => return (Diagnosis::error(check, &error), false),
    };
    if !state.exist {
        return (missing_logins(state, config.database.auto_migrate), state.can_be_made);
    }
    let mut owner_logs_in = false;
    let repairs = config.database.auto_migrate && state.can_be_made;
    for role in Role::ALL {
        let is_derived = target.derived_verifier(role).is_some() || !secret::has_secret(config);
        let checked = match connect_as(target, role).await {
            Ok(client) => {
                owner_logs_in |= role == Role::Owner;
                check_role(&client, role).await
            }
            Err(StorageError::Unsafe(_)) if repairs && is_derived => {
                let found = format!("{} has another password than the derived one", role.name());
                let advice = "nothing: the server sets it at its start. A server with another secret loses its login";
                return (Diagnosis::warning(check, found, advice), owner_logs_in);
            }
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            return (Diagnosis::error(check, &error), owner_logs_in);
        }
    }
    let names = Role::ALL.map(Role::name).join(", ");
    (Diagnosis::ok(check, format!("{names} log in by themselves, and have no more rights than they need")), true)
}

fn missing_logins(state: RoleState, auto_migrate: bool) -> Diagnosis {
    let check = "logins";
    let found = "chat_owner, chat_app and chat_writer do not all exist";
    match (state.can_be_made, auto_migrate) {
        (true, true) => Diagnosis::ok(check, format!("{found} yet; the server creates them at its start")),
        (true, false) => {
            let found = format!("{found}, and database.auto_migrate is false");
            Diagnosis::fault(check, found, "run `chat-server migrate`")
        }
        (false, _) => Diagnosis::fault(
            check,
            format!("{found}, and the user of database.url may not create them"),
            "let an administrator run the statements of docs/configuration.md, \"Database logins\"",
        ),
    }
}

fn migrations(plan: &Plan, auto_migrate: bool) -> Diagnosis {
    let check = "migrations";
    if plan.tables.is_empty() && plan.is_installed {
        return Diagnosis::ok(check, format!("all table migrations and the rule set {} are installed", plan.set));
    }
    let rules = if plan.is_installed { "" } else { " and the rule set of this version" };
    let found = format!("{} table migrations{rules} are not installed yet", plan.tables.len());
    if auto_migrate {
        return Diagnosis::ok(check, format!("{found}; the server installs them at its start"));
    }
    let found = format!("{found}, and database.auto_migrate is false");
    Diagnosis::fault(check, found, "see `chat-server migrate --plan`, and run `chat-server migrate`")
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::Grade;
    use super::*;

    #[test]
    fn warns_of_a_distant_postgresql_by_the_median() {
        let ms = |times: [u64; 3]| times.map(Duration::from_millis);
        let near = speed("db:5432", &ms([1, 2, 900]));
        assert_eq!(near.found, "db:5432: 3 round trips, median 2.00 ms, worst 900.00 ms");
        assert_eq!(near.severity, Grade::Ok);
        assert_eq!(speed("db:5432", &ms([1, 20, 30])).severity, Grade::Warning);
    }

    #[test]
    fn missing_migrations_are_a_fault_only_if_the_server_does_not_install_them() {
        let empty = Plan::for_empty();
        assert_eq!(migrations(&empty, true).severity, Grade::Ok);
        assert_eq!(migrations(&empty, false).severity, Grade::Fault);
        let done = Plan { tables: Vec::new(), is_installed: true, ..Plan::for_empty() };
        assert_eq!(migrations(&done, false).severity, Grade::Ok);
    }

    #[test]
    fn missing_logins_are_a_fault_if_nobody_creates_them() {
        let state = |can_be_made| RoleState { exist: false, can_be_made };
        assert_eq!(missing_logins(state(true), true).severity, Grade::Ok);
        assert_eq!(missing_logins(state(true), false).severity, Grade::Fault);
        assert_eq!(missing_logins(state(false), true).severity, Grade::Fault);
    }
}

//! The rights of people over their data, at the start of the server.

use super::error::{BootError, system};
use crate::audit::note::AuditKey;
use crate::config::Config;
use crate::control::Notices;
use crate::control::data_rights::ledger::{LEDGER_FILE, Ledger};
use crate::control::data_rights::{DataRights, DataRightsParts, RightsPort};
use crate::files::store::Store;
use crate::storage::accounts::Accounts;
use crate::storage::connect::Target;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Time between two looks at what the ledger lacks.
const LEDGER_INTERVAL: Duration = Duration::from_mins(10);

/// What the jobs of data rights need.
pub(super) struct RightsNeeds<'a> {
    pub(super) target: &'a Target,
    pub(super) accounts: &'a Accounts,
    pub(super) store: Store,
    pub(super) port: Arc<dyn RightsPort>,
    pub(super) profile_changes: &'a Arc<Notify>,
    pub(super) notices: &'a Notices,
}

/// Opens the ledger and compares it with the database: before anybody signs in, since a restored backup may have
/// brought somebody back. `None` without a key that signs.
pub(super) async fn start(
    config: &Config,
    key: Option<AuditKey>,
    needs: RightsNeeds<'_>,
) -> Result<Option<DataRights>, BootError> {
    let Some(key) = key else {
        if config.data_dir.join(LEDGER_FILE).exists() {
            return Err(BootError::Configuration(
                "data_dir has a ledger of erasures and no audit_key that verifies it: restore the key, or a restored \
                 backup brings erased people back"
                    .to_owned(),
            ));
        }
        return Ok(None);
    };
    let opened = Ledger::open(&config.data_dir, key.clone(), needs.store.disk().clone());
    let (ledger, records) = opened.map_err(system("cannot use the ledger of erasures"))?;
    let rights = DataRights::new(DataRightsParts {
        target: needs.target.clone(),
        accounts: needs.accounts.clone(),
        ledger,
        retention: Some(config.retention.messages).filter(|limit| !limit.is_zero()),
        store: needs.store,
        key,
        port: needs.port,
        profile_changes: Arc::clone(needs.profile_changes),
        ledger_interval: ledger_interval(),
    });
    let revoked = rights.compare(records).await;
    let revoked = revoked.map_err(|refusal| BootError::Broken(format!("the ledger of erasures: {refusal}")))?;
    (needs.notices)(revoked.into());
    Ok(Some(rights))
}

/// `CHAT_TEST_LEDGER_SECONDS` shortens the interval, in builds for tests only.
#[cfg(feature = "test-db")]
fn ledger_interval() -> Duration {
    let seconds = std::env::var("CHAT_TEST_LEDGER_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(LEDGER_INTERVAL, Duration::from_secs)
}

#[cfg(not(feature = "test-db"))]
fn ledger_interval() -> Duration {
    LEDGER_INTERVAL
}

//! `chat-server backup`: the commands, from the configuration to what they print.
//!
//! ```text
//!   create.rs      hold content → snapshot → uploads, dump, contents, keys → manifest
//!   verify.rs      checksums → a database in a folder of its own → rows, audit trail, contents
//!   restore.rs     checksums → an empty place → keys, database, files → audit trail, `files check --deep`
//!   ledger.rs      the erasures that a restored server does again
//! ```
//!
//! `crate::backup` has the parts of it that need no configuration.

mod create;
mod guarded;
mod ledger;
mod opening;
mod restore;
mod unfinished;
mod verify;

pub(in crate::boot) use self::create::read_url;
pub use self::create::{CreateBackupOptions, create_backup};
pub(in crate::boot) use self::guarded::GuardedPostgres;
pub use self::restore::{RestoreBackupOptions, restore_backup};
pub(in crate::boot) use self::unfinished::refuse_unfinished_restore;
pub use self::verify::{VerifyBackupOptions, verify_backup};
pub use crate::backup::place::BackupPlace;
pub use crate::backup::seal::BackupRecipient;

//! The subcommands.

mod account;
mod conversations;
mod files;
mod messages;
mod names;
mod pages;
mod slash;
mod two_factor;

use crate::cli::{Arguments, Command};
use crate::failure::Failure;
use crate::follow::{Follower, Start};
use crate::output::Output;
use crate::profile::Profile;
use crate::session::Session;

/// Runs the subcommand.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Arguments { global, command } = arguments;
    let profile = Profile::open(&global.profile)?;
    match command {
        Command::Register(options) => return account::register(&global, &profile, output, options).await,
        Command::Login(options) => return account::login(&global, &profile, output, options).await,
        Command::Logout { local: true } => return account::forget(&profile, output),
        _ => {}
    }
    let session = Session::open(profile, global.server.as_ref())?;
    match command {
        Command::Register(_) | Command::Login(_) => Ok(()), // done above
        Command::Logout { .. } => account::logout(&session, output).await,
        Command::Whoami => account::whoami(&session, output).await,
        Command::TwoFactor(what) => two_factor::run(&session, output, what).await,
        Command::List => conversations::list_mine(&session, output).await,
        Command::Rooms { query } => conversations::rooms(&session, output, query.as_deref()).await,
        Command::Create(options) => conversations::create(&session, output, options).await,
        Command::Join { conversation } => conversations::join(&session, output, &conversation).await,
        Command::Invitations => conversations::invitations(&session, output).await,
        Command::Accept { conversation } => conversations::accept(&session, output, &conversation).await,
        Command::Decline { conversation } => conversations::decline(&session, output, &conversation).await,
        Command::Leave { conversation } => conversations::leave(&session, output, &conversation).await,
        Command::Members { conversation } => conversations::members(&session, output, &conversation).await,
        Command::BotCommands { conversation } => slash::commands(&session, output, &conversation).await,
        Command::Read { conversation } => conversations::read(&session, output, &conversation).await,
        Command::Send(options) => messages::send(&session, output, options).await,
        Command::Download(options) => files::download(&session, output, &options).await,
        Command::History(options) => messages::history(&session, output, &options).await,
        Command::Follow(options) => {
            let conversation = names::conversation(&session, &options.conversation).await?;
            let start = options.after.map_or(Start::Last(options.last), Start::After);
            Follower::new(&session, output, &conversation, start).run().await
        }
        Command::Edit { message_id, text } => messages::edit(&session, output, message_id, &text).await,
        Command::Delete { message_id } => messages::delete(&session, output, message_id).await,
        Command::React { message_id, emoji, remove } => {
            messages::react(&session, output, message_id, &emoji, remove).await
        }
        Command::Pin { message_id, remove } => messages::pin(&session, output, message_id, !remove).await,
        Command::Search(options) => messages::search(&session, output, &options).await,
        Command::Raw { name, data } => messages::raw(&session, &name, &data).await,
    }
}

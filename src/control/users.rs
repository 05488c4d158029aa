//! `/users`: profiles.

use super::{
    Control,
    extract::{AccountReader, Caller, Json, PathId, ProfileEditor, QueryString},
    problem::Problem,
    validate, view,
};
use crate::ids::UserId;
use crate::storage::accounts::{AccountProfile, FieldChange, ProfileEdit, SEARCH_USERS_MAX};
use axum::{Json as Reply, extract::State};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;

const SEARCH_USERS_DEFAULT: i64 = 20;

pub(super) async fn me(
    State(control): State<Control>,
    reader: AccountReader,
) -> Result<Reply<view::UserView>, Problem> {
    own(control.accounts().profile(reader.caller.user).await?)
}

pub(super) async fn by_id(
    State(control): State<Control>,
    _reader: AccountReader,
    PathId(id): PathId,
) -> Result<Reply<view::UserView>, Problem> {
    let profile = control.accounts().profile(UserId(id)).await?;
    profile.map(|profile| Reply(profile.into())).ok_or_else(nobody)
}

/// The profile for its own user.
fn own(profile: Option<AccountProfile>) -> Result<Reply<view::UserView>, Problem> {
    profile.map(|profile| Reply(view::UserView::own(profile))).ok_or_else(nobody)
}

fn nobody() -> Problem {
    Problem::not_found("No user has this id.")
}

/// An absent `avatar_url` or `bio` is kept; `null` removes it.
#[derive(Deserialize)]
pub(super) struct Edit {
    display_name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    avatar_url: FieldChange<String>,
    #[serde(default, deserialize_with = "given")]
    bio: FieldChange<String>,
    read_receipts: Option<Receipts>,
    group_invitations: Option<MayAdd>,
}

/// Who may add the user to groups at once.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum MayAdd {
    Everyone,
    Contacts,
    Nobody,
}

impl MayAdd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Contacts => "contacts",
            Self::Nobody => "nobody",
        }
    }
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Receipts {
    Public,
    Private,
}

pub(super) fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FieldChange<String>, D::Error> {
    Option::deserialize(deserializer).map(|value| value.map_or(FieldChange::Clear, FieldChange::Set))
}

pub(super) async fn edit_me(
    State(control): State<Control>,
    ProfileEditor(caller): ProfileEditor,
    Json(mut edit): Json<Edit>,
) -> Result<Reply<view::UserView>, Problem> {
    keep_own_picture(&control, &caller, &mut edit).await?;
    let display_name = edit.display_name.as_deref().map(validate::display_name).transpose()?;
    let avatar_url = checked(&edit.avatar_url, validate::avatar_url)?;
    let bio = checked(&edit.bio, validate::bio)?;
    let edit = ProfileEdit {
        display_name: display_name.as_deref(),
        avatar_url: avatar_url.as_deref(),
        bio: bio.as_deref(),
        receipts_private: edit.read_receipts.map(|receipts| receipts == Receipts::Private),
        group_invitations: edit.group_invitations.map(MayAdd::as_str),
    };
    if edit == ProfileEdit::default() {
        return own(control.accounts().profile(caller.user).await?);
    }
    control.profile_edits().charge(caller.user, std::time::Instant::now())?;
    let set = |change| if let FieldChange::Set(text) = change { Some(text) } else { None };
    let texts = [("display_name", edit.display_name), ("bio", set(edit.bio)), ("avatar_url", set(edit.avatar_url))];
    for (field, text) in texts {
        if let Some(text) = text {
            control.filter().check_profile(Some(caller.user), ("PATCH /users/me", field), text).await?;
        }
    }
    let profile = control.accounts().update_profile(&caller, edit).await?;
    control.files().work_arrived(); // an uploaded picture may be to be removed
    control.profile_changed();
    own(profile)
}

/// A client may send the address of the user's uploaded picture back: it stays.
async fn keep_own_picture(control: &Control, caller: &Caller, edit: &mut Edit) -> Result<(), Problem> {
    if let FieldChange::Set(url) = &edit.avatar_url
        && url.starts_with("/avatars/")
    {
        let profile = control.accounts().profile(caller.user).await?.ok_or_else(nobody)?;
        if profile.avatar_url.as_ref() == Some(url) {
            edit.avatar_url = FieldChange::Keep;
        }
    }
    Ok(())
}

fn checked<'a>(
    change: &'a FieldChange<String>,
    check: fn(&'a str) -> Result<Cow<'a, str>, Problem>,
) -> Result<FieldChange<Cow<'a, str>>, Problem> {
    Ok(match change {
        FieldChange::Keep => FieldChange::Keep,
        FieldChange::Clear => FieldChange::Clear,
        FieldChange::Set(text) => FieldChange::Set(check(text)?),
    })
}

#[derive(Deserialize)]
pub(super) struct Search {
    query: String,
    limit: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct Found {
    users: Vec<view::UserView>,
}

pub(super) async fn search(
    State(control): State<Control>,
    _reader: AccountReader,
    QueryString(search): QueryString<Search>,
) -> Result<Reply<Found>, Problem> {
    let query = validate::query(&search.query)?;
    let limit = search.limit.unwrap_or(SEARCH_USERS_DEFAULT);
    if !(1..=SEARCH_USERS_MAX).contains(&limit) {
        return Err(Problem::bad_request("limit: Must be 1 to 50."));
    }
    let users = control.accounts().search_users(&query, limit).await?;
    Ok(Reply(Found { users: users.into_iter().map(view::UserView::from).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_absent() {
        let parse = |text| serde_json::from_str::<Edit>(text).unwrap().avatar_url;
        assert_eq!(parse("{}"), FieldChange::Keep);
        assert_eq!(parse(r#"{"avatar_url":null}"#), FieldChange::Clear);
        assert_eq!(parse(r#"{"avatar_url":"https://a"}"#), FieldChange::Set("https://a".into()));
    }
}
